"""Where `still push` puts what a laptop has: a claim, a bucket, a registry. One seam (`Target`), three implementations."""
