"""How a stage rounds while it trains, and when it looks again within which ranges."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from stillhouse.passes.compress.ranges import Method
from stillhouse.passes.distill.config import CamelConfig

__all__ = ["FIELD", "READINGS", "QuantizeConfig", "reads_before"]

FIELD: Final = "spec.compress.qat"
READINGS: Final = 8
"""So often the ranges are read again at most: of 128 rows, each time about what a step takes."""


class QuantizeConfig(CamelConfig):
    """`ranges`, `percentile` and `balance`: see `StaticConfig`. `samples`: calibration rows; `reduce_range`: 7-bit weights."""

    ranges: Method = "minmax"
    percentile: float = Field(default=99.999, ge=50, le=100)
    balance: float = Field(default=0.5, ge=0, le=1)
    samples: int = Field(default=128, ge=1, le=100_000)
    reduce_range: bool = False


def reads_before(step: int, steps: int) -> bool:
    """Say whether ranges are read again before `step` (from 0) of `steps`: in the first half.

    In the second they stay, so that the weights settle in ranges that no longer move.
    """
    until = (steps + 1) // 2
    every = max(1, -(-until // READINGS))
    return 0 < step <= until and (until - step) % every == 0
