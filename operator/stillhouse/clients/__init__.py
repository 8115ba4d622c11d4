"""One seam per outside world: the store, the sources, Triton. Each with a fake or a local form that ships."""
