"""Figures and limits → passed, failed, or too noisy to tell. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from stillhouse.passes.evaluate.intervals import Interval, Share
from stillhouse.sizes import size

__all__ = ["Check", "Outcome", "combine", "compare", "describe"]

Outcome = Literal["passed", "failed", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Check:
    """One limit and what was measured: `limit` is a lower one with `sense` min, an upper one with max."""

    name: str
    sense: Literal["min", "max"]
    limit: float
    interval: Interval
    outcome: Outcome
    unit: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "interval": self.interval.to_json()}


def compare(name: str, sense: Literal["min", "max"], limit: float, interval: Interval, unit: str = "") -> Check:
    """Compare an interval with a limit.

    Passed: its unfavourable end meets the limit. Failed: even its favourable end misses it. Between: too noisy to tell.
    A figure that is not a number (a model that answers NaN) fails.
    """
    worst, best = (interval.low, interval.high) if sense == "min" else (-interval.high, -interval.low)
    wanted = limit if sense == "min" else -limit
    unusable = any(math.isnan(value) for value in (interval.estimate, worst, best))
    outcome: Outcome = "inconclusive"
    if unusable or best < wanted:
        outcome = "failed"
    elif worst >= wanted:
        outcome = "passed"
    return Check(name, sense, limit, interval, outcome, unit)


def combine(checks: Iterable[Check]) -> Outcome:
    """Return the verdict over all limits: one failed limit fails, else one noisy one leaves it open."""
    outcomes = {check.outcome for check in checks}
    return "failed" if "failed" in outcomes else "inconclusive" if "inconclusive" in outcomes else "passed"


def describe(check: Check) -> str:
    """Say in a line what was measured, what the limit is and by how much it was missed."""
    interval, relation = check.interval, "at least" if check.sense == "min" else "at most"
    text = (
        f"{check.name} {_show(interval.estimate, check.unit)} "
        f"[{_show(interval.low, check.unit)}, {_show(interval.high, check.unit)}] (n={interval.n}{_parts(interval)}), "
        f"{relation} {_show(check.limit, check.unit)} wanted"
    )
    if check.outcome == "passed":
        return text
    worst = interval.low if check.sense == "min" else interval.high
    missed = abs(worst - check.limit)
    if math.isnan(missed):
        return f"{text}: the model's answers are not numbers"
    if math.isinf(missed):
        return f"{text}: too few measurements to bound it"
    share = f" ({missed / abs(check.limit):.1%} of the limit)" if check.limit else ""
    if check.outcome == "failed":
        return f"{text}: missed by {_show(missed, check.unit)}{share}"
    return f"{text}: the interval's unfavourable end misses it by {_show(missed, check.unit)}{share}, too noisy to tell"


def _parts(interval: Interval) -> str:
    if not isinstance(interval, Share):
        return ""
    both = {"student": interval.student, "teacher": interval.teacher}
    return "; " + ", ".join(f"{who} {each.estimate:.3f} [{each.low:.3f}, {each.high:.3f}]" for who, each in both.items())


def _show(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "unknown"
    if unit == "s":
        return f"{value * 1000:.2f} ms"
    if unit == "B":
        return size(value)
    if unit == "/s":
        return f"{value:.1f}/s"
    return f"{value:.4f}"
