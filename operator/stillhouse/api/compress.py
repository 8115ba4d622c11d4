"""Which precisions are made and tried."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from stillhouse.api.base import ApiModel, NotAvailableHere, Reserved, ReservedField
from stillhouse.api.source import DataSource

__all__ = ["Compress", "Precision"]

Precision = Literal["auto", "fp32", "int8", "fp16", "int4", "mixed"]
LATER = ("fp16", "int4", "mixed")


class Compress(ApiModel):
    """Quantization.

    `auto` walks the ladder INT8 → INT8 without its most sensitive operators → FP32 and takes the first that passes the gate.
    """

    precision: Precision = "auto"
    """`auto`, `fp32` or `int8`; `fp16`, `int4` and `mixed` come with a later version."""
    calibration: DataSource | None = None
    """Texts or images on which sensitivity is measured; the training data when left out. Must not overlap the gate's."""
    keep_fp32: Annotated[int, Field(ge=1, le=256)] = 4
    """How many of the most sensitive operators the ladder's second rung keeps in FP32."""
    goal: Annotated[Any, Reserved, ReservedField("precision chosen by a goal")] = None
    """Precision chosen by a goal."""

    @field_validator("precision")
    @classmethod
    def _available(cls, value: Precision) -> Precision:
        if value in LATER:
            raise NotAvailableHere("not available in this version")
        return value
