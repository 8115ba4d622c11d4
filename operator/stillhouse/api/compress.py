"""Which precisions are made and tried."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.int8 import Int8
from stillhouse.api.source import DataSource

__all__ = ["LATER", "Compress", "Precision"]

Precision = Literal["auto", "fp32", "int8", "fp16", "bf16", "int4", "mixed"]
LATER = {
    "bf16": "write fp16, which has the same size and three more bits of a number",
    "int4": "write int8; or auto, which takes int8 where the gate lets it pass",
    "mixed": "write auto, which tries int8 with its most sensitive operators in FP32",
}
"""Values that a later version brings → what to write now."""
AVAILABLE = tuple(each for each in get_args(Precision) if each not in LATER)

_LATER = CelRule(
    "!(self.precision in ['bf16', 'int4', 'mixed'])",
    "not available in this version: int4, mixed, and bf16, whose products and sums ONNX Runtime lacks on CPUs",
    "precision",
)

_OF_AUTO = CelRule(
    "!has(self.goal) || self.precision == 'auto'", "a goal chooses among candidates: it belongs to precision auto", "goal"
)
_OF_INT8 = CelRule("!has(self.int8) || self.precision in ['auto', 'int8']", "int8 belongs to precision int8 or auto", "int8")


class Compress(ApiModel):
    """Quantization.

    `auto` walks the ladder INT8 → INT8 without its most sensitive operators → FP32 and takes the first that passes the gate; of
    images, and where `int8` asks for it, INT8 with ranges from calibration data comes first.
    """

    precision: Precision = "auto"
    """`auto`, `fp32`, `int8` or `fp16` (half of FP32's size; CPUs compute it in FP32); `int4` and `mixed` come with a later
    version, `bf16` when ONNX Runtime computes in it on CPUs. A source that is an ONNX file takes `int8` or `fp16`."""
    calibration: DataSource | None = None
    """Texts or images on which sensitivity is measured and ranges are read; the training data when left out. Must not overlap
    the gate's."""
    keep_fp32: Annotated[int, Field(ge=1, le=256)] = 4
    """How many of the most sensitive operators the ladder's second rung keeps in FP32."""
    goal: Literal["fast", "balanced", "small"] | None = None
    """With `auto`: every candidate is measured, and of those that pass the gate one is taken. `fast`: most answers a second
    under the gate's load; `small`: fewest bytes; `balanced`: most answers a second for each byte. Of candidates that differ by
    less than the noise the smaller one. Left out, the first of the ladder that passes: the sooner known."""
    int8: Int8 | None = None
    """How INT8 gets the ranges of activations. Left out, every run looks for them; `auto` also tries ranges from calibration
    data (`minmax`) of images, and in a search."""

    cel_rules = (_LATER, _OF_AUTO, _OF_INT8)

    @model_validator(mode="after")
    def _available(self) -> Compress:
        if self.precision in LATER:
            raise _LATER.broken(fix=LATER[self.precision], allowed=f"{', '.join(AVAILABLE[:-1])} or {AVAILABLE[-1]}")
        if self.goal is not None and self.precision != "auto":
            raise _OF_AUTO.broken(fix="remove goal, or write precision: auto")
        if self.int8 is not None and self.precision not in ("auto", "int8"):
            raise _OF_INT8.broken(fix="remove int8, or write precision: int8")
        return self
