"""Pipelines whose steps are apart: several models that answer as one."""
