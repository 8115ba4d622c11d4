"""Stillhouse: one YAML file from a teacher model to a small, measured gRPC service."""

__version__ = "0.1.0"
