"""Which of the candidates that passed is taken, by the goal of the search, and why the others lost. Pure.

Noise decides nothing: whose interval reaches the best one's is as good, and then the other figure counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from stillhouse.passes.evaluate.candidate import Measured
from stillhouse.passes.evaluate.intervals import Interval
from stillhouse.sizes import size

__all__ = ["Goal", "choose", "drifted", "lost"]

Goal = Literal["fast", "balanced", "small"]
ALIKE = 1.02
"""Sizes whose ratio is below are alike: an export differs by as much in its names."""
_WORSE: Final = {"fast": "slower", "small": "as small, and slower", "balanced": "fewer answers a second for each byte"}


def choose(goal: Goal, passed: Sequence[Measured]) -> Measured:
    """Return the best of one or more candidates that passed.

    `fast`: most answers a second, of those that are as fast the smallest. `small`: fewest bytes, of those that are alike the
    fastest, of those that are as fast the smallest. `balanced`: most answers a second for each byte (half the bytes weigh as
    much as twice the answers), of those that are as good the smallest.
    """
    if goal == "small":
        least = min(each.size for each in passed)
        passed = [each for each in passed if each.size <= least * ALIKE]
    values = [_value(goal, each) for each in passed]
    best = max(values, key=lambda each: each.estimate)
    alike = [each for each, value in zip(passed, values, strict=True) if value.reaches(best)]
    return min(alike, key=lambda each: (each.size, -_speed(each).estimate))


def lost(goal: Goal, each: Measured, winner: Measured) -> str:
    """Say why a candidate that passed was not taken."""
    speeds = f"{_words(each)}, {winner.precision} {_words(winner)}"
    if goal == "small" and each.size > winner.size * ALIKE:
        words = "larger"
    elif _value(goal, each).high >= _value(goal, winner).low:
        words = f"{'as good' if goal == 'balanced' else 'as fast'} within the noise, and larger"
    else:
        words = _WORSE[goal]
    return f"{words}: {speeds}"


def drifted(first: Measured) -> str:
    """Say how far the machine was another one at the end of a search; "" where the first candidate is as fast within the noise.

    Candidates are measured one after another: what others do with the machine in between is in no interval.
    """
    if first.again is None or first.again.reaches(_speed(first)):
        return ""
    return (
        f"the machine changed meanwhile: {first.precision} first {_speed(first).estimate:.0f}/s, again"
        f" {first.again.estimate:.0f}/s; its speeds may have decided wrongly: search on a quiet machine, with more requests"
        " (spec.gate.load.requests)"
    )


def _words(each: Measured) -> str:
    return f"{_speed(each).estimate:.0f}/s in {size(each.size)}"


def _speed(each: Measured) -> Interval:
    """Return answers a second; none where a gate without rows measured none."""
    return each.figures.get("throughput") or Interval(0.0, 0.0, 0.0, 0)


def _value(goal: Goal, each: Measured) -> Interval:
    speed, by = _speed(each), float(max(each.size, 1)) if goal == "balanced" else 1.0
    return Interval(speed.estimate / by, speed.low / by, speed.high / by, speed.n)
