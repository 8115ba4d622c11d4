"""Torch → ONNX: two exporters, one checked graph, and the figures that describe it."""
