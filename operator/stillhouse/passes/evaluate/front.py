"""A search among candidates as a picture: what every one weighs and how fast it answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from stillhouse.passes.evaluate.candidate import Measured
from stillhouse.passes.picture import Axis, Point, scatter
from stillhouse.sizes import size

__all__ = ["svg"]


def svg(measured: Sequence[Measured], taken: Measured, goal: str) -> str:
    """Return the picture: bytes to the right, answers a second upwards (with its interval), both logarithmic.

    Full: it met every limit. Hollow: it did not, or could not be told. Another colour: it was taken. Candidates without a
    throughput (a gate without rows) stand on the floor.
    """
    return scatter(
        [_point(each, taken) for each in measured],
        Axis(size),
        Axis(lambda value: f"{value:.0f}/s"),
        f"Candidates, goal {goal}",
        "answers a second over bytes; hollow: a limit was missed; green: taken",
    )


def _point(each: Measured, taken: Measured) -> Point:
    speed = each.figures.get("throughput")
    y, low, high = (speed.estimate, speed.low, speed.high) if speed else (math.nan, math.nan, math.nan)
    kind: Literal["taken", "passed", "missed"] = "missed" if each.outcome != "passed" else "taken" if each is taken else "passed"
    return Point(each.precision, float(max(each.size, 1)), y, kind, low, high)
