"""Precision: INT8 by dynamic quantization, and which operators bear it worst."""
