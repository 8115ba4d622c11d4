"""Torch models as artifacts: what their files say, loading and saving them. Importing this package imports no torch."""
