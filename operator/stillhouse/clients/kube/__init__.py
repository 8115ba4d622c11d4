"""The seam to a Kubernetes API server: what is asked of it, the real one, and one in memory."""
