"""Limits of size and of median latency: one of nothing would never be kept."""

from __future__ import annotations

from stillhouse.api.base import CelRule
from stillhouse.api.scalars import parse_duration, parse_quantity

__all__ = ["LIMIT_RULES", "refuse_nothing"]

_SOME_SIZE = CelRule("!has(self.maxSize) || self.maxSize.matches('[1-9]')", "maxSize must be more than 0", "maxSize")
_SOME_TIME = CelRule(
    "!has(self.maxLatencyP50) || self.maxLatencyP50.matches('[1-9]')", "maxLatencyP50 must be more than 0", "maxLatencyP50"
)
LIMIT_RULES = (_SOME_SIZE, _SOME_TIME)


def refuse_nothing(max_size: str | None, max_latency_p50: str | None) -> None:
    """Refuse a limit of nothing.

    Raises:
        Mistake: one is 0.
    """
    if max_size is not None and not parse_quantity(max_size):
        raise _SOME_SIZE.broken(fix='write maxSize: "4Mi", or leave it out')
    if max_latency_p50 is not None and not parse_duration(max_latency_p50):
        raise _SOME_TIME.broken(fix="write maxLatencyP50: 2ms, or leave it out")
