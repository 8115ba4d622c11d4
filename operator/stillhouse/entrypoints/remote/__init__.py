"""What `still` does with a cluster: it reads and writes resources, and leaves the work to the operator."""
