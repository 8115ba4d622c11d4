"""Stillhouse: one YAML file from a teacher model to a small, measured gRPC service."""

import os

__version__ = "0.1.0"

# ONNX Runtime's Linux wheels send usage events to Microsoft and keep a device id under ~/.cache/Microsoft, from their
# import on: only the environment comes early enough (`disable_telemetry_events()` comes after both). Here, because every
# process of ours that loads it has imported this package before: the command line, the passes, the server's backend.
# Whoever wants the telemetry says so: ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
