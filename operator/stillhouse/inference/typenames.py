"""Data types of the Open Inference Protocol: the one table of them. Plain data: the edge's guard knows no tensors."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["SIZES"]

SIZES: Mapping[str, int | None] = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8, "BYTES": None,
}  # fmt: skip
"""The bytes of one element; None where each element has its own."""
