"""Which precisions are made and tried."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.int8 import Int8
from stillhouse.api.qat import Qat
from stillhouse.api.source import DataSource
from stillhouse.api.weights import Int4, Mixed

__all__ = ["Compress", "Precision"]

Precision = Literal["auto", "fp32", "int8", "fp16", "bf16", "int4", "mixed"]

_OF_AUTO = CelRule(
    "!has(self.goal) || self.precision == 'auto'", "a goal chooses among candidates: it belongs to precision auto", "goal"
)
_OF_INT4 = CelRule(
    "!has(self.int4) || self.precision in ['int4', 'mixed'] || (has(self.goal) && self.goal != 'fast')",
    "int4 belongs to precision int4 or mixed, or to goal small or balanced",
    "int4",
)
_OF_MIXED = CelRule(
    "!has(self.mixed) || self.precision == 'mixed' || (has(self.goal) && self.goal != 'fast')",
    "mixed belongs to precision mixed, or to goal small or balanced",
    "mixed",
)
_OF_INT8 = CelRule("!has(self.int8) || self.precision in ['auto', 'int8']", "int8 belongs to precision int8 or auto", "int8")
_OF_QAT = CelRule("!has(self.qat) || self.precision in ['auto', 'int8']", "qat belongs to precision int8 or auto", "qat")
_QAT_HAS_RANGES = CelRule(
    "!has(self.qat) || !has(self.int8) || self.int8.ranges != 'dynamic'",
    "qat learns with ranges that stay: minmax, percentile or entropy",
    "int8.ranges",
)


class Compress(ApiModel):
    """Quantization.

    `auto` walks the ladder INT8 → INT8 without its most sensitive operators → FP32 and takes the first that passes the gate; of
    images and time series, and where `int8` asks for it, INT8 with ranges from calibration data comes first, and before it INT8
    that was trained with, where `qat` asks for it. For the goals `small` and `balanced`
    it also tries INT4 and, where there is calibration data, mixed precisions.
    """

    precision: Precision = "auto"
    """`auto`, `fp32`, `int8`, `fp16` (weights of half the size, computed in FP32), `bf16` (the same size, fewer digits, for
    weights beyond 65504 or below 0.00001), `int4` (weights alone) or `mixed` (each operator in INT4, INT8 or FP32, the smallest
    within `mixed.maxLoss`; needs calibration data). A source that is an ONNX file takes any but `auto` and `fp32`."""
    calibration: DataSource | None = None
    """Texts, images or numbers on which sensitivity is measured and ranges are read; the training data when left out. Must
    not overlap the gate's."""
    keep_fp32: Annotated[int, Field(ge=1, le=256)] = 4
    """How many of the most sensitive operators the ladder's second rung keeps in FP32."""
    goal: Literal["fast", "balanced", "small"] | None = None
    """With `auto`: every candidate is measured, and of those that pass the gate one is taken. `fast`: most answers a second
    under the gate's load; `small`: fewest bytes; `balanced`: most answers a second for each byte. Of candidates that differ by
    less than the noise the smaller one. Left out, the first of the ladder that passes: the sooner known."""
    int8: Int8 | None = None
    """How INT8 gets the ranges of activations. Left out, every run looks for them; `auto` also tries ranges from calibration
    data (`minmax`) of images and time series, and in a search."""
    qat: Qat | None = None
    """Trains the student with rounded numbers before it becomes INT8; of a student alone, which `distill` makes. With precision
    `int8` this is the one candidate, in `auto` the first. `int8` says how it gets its ranges."""
    int4: Int4 | None = None
    """How weights become INT4."""
    mixed: Mixed | None = None
    """What mixed precisions may lose."""

    cel_rules = (_OF_AUTO, _OF_INT8, _OF_QAT, _QAT_HAS_RANGES, _OF_INT4, _OF_MIXED)

    @model_validator(mode="after")
    def _available(self) -> Compress:
        if self.goal is not None and self.precision != "auto":
            raise _OF_AUTO.broken(fix="remove goal, or write precision: auto")
        if self.int8 is not None and self.precision not in ("auto", "int8"):
            raise _OF_INT8.broken(fix="remove int8, or write precision: int8")
        if self.qat is not None and self.precision not in ("auto", "int8"):
            raise _OF_QAT.broken(fix="remove qat, or write precision: int8")
        if self.qat is not None and self.int8 is not None and self.int8.ranges == "dynamic":
            raise _QAT_HAS_RANGES.broken(fix="remove int8, or write ranges: minmax")
        searched = self.goal in ("small", "balanced")
        if self.int4 is not None and self.precision not in ("int4", "mixed") and not searched:
            raise _OF_INT4.broken(fix="remove int4, or write precision: int4")
        if self.mixed is not None and self.precision != "mixed" and not searched:
            raise _OF_MIXED.broken(fix="remove mixed, or write precision: mixed")
        return self
