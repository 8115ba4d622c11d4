"""Where typed contents stand in the Open Inference Protocol's messages."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FIELDS"]

FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Where typed contents stand in `InferTensorContents`. Types that are not here travel as raw contents alone."""
