"""How a stage rounds while it trains, and when it looks again within which ranges."""

from __future__ import annotations

from typing import Final

from stillhouse.passes.compress.calibrating import RoundingConfig

__all__ = ["FIELD", "READINGS", "QuantizeConfig", "reads_before"]

FIELD: Final = "spec.compress.qat"
READINGS: Final = 8
"""So often the ranges are read again at most: of 128 rows, each time about what a step takes."""


class QuantizeConfig(RoundingConfig):
    """As of the pass that writes what was learned."""


def reads_before(step: int, steps: int) -> bool:
    """Say whether ranges are read again before `step` (from 0) of `steps`: in the first half.

    In the second they stay, so that the weights settle in ranges that no longer move.
    """
    until = (steps + 1) // 2
    every = max(1, -(-until // READINGS))
    return 0 < step <= until and (until - step) % every == 0
