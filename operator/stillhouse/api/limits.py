"""Limits of size and of latency: one of nothing would never be kept."""

from __future__ import annotations

from stillhouse.api.base import CelRule
from stillhouse.api.scalars import parse_duration, parse_quantity

__all__ = ["LIMIT_RULES", "SOME_TAIL", "refuse_nothing"]


def _some(field: str) -> CelRule:
    """Give the rule that a limit which is named is more than 0."""
    return CelRule(f"!has(self.{field}) || self.{field}.matches('[1-9]')", f"{field} must be more than 0", field)


_SOME_SIZE, _SOME_TIME, SOME_TAIL = _some("maxSize"), _some("maxLatencyP50"), _some("maxLatencyP99")
LIMIT_RULES = (_SOME_SIZE, _SOME_TIME)
"""Of every kind that has limits; `SOME_TAIL` beside them where there is one of the 99th percentile."""


def refuse_nothing(max_size: str | None, max_latency_p50: str | None, max_latency_p99: str | None = None) -> None:
    """Refuse a limit of nothing.

    Raises:
        Mistake: one is 0.
    """
    if max_size is not None and not parse_quantity(max_size):
        raise _SOME_SIZE.broken(fix='write maxSize: "4Mi", or leave it out')
    for rule, limit, example in ((_SOME_TIME, max_latency_p50, "2ms"), (SOME_TAIL, max_latency_p99, "20ms")):
        if limit is not None and not parse_duration(limit):
            raise rule.broken(fix=f"write {rule.field}: {example}, or leave it out")
