"""One machine without a cluster: what the commands of `still` do, apart from parsing and printing."""
