"""Benchmarks. Run from the project's root: `python -m bench.NAME`."""
