"""What is searched among, what of the tried shapes is worth having, and which is taken. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stillhouse.passes.base import Artifact
from stillhouse.sizes import size

__all__ = ["DIMENSIONS", "FILE", "Limits", "Tried", "choose", "feasible", "found_shape", "front", "idle", "nearest", "words"]

FILE = "search.json"

DIMENSIONS = {
    "hiddenLayers": "hidden_layers",
    "hiddenSize": "hidden_size",
    "attentionHeads": "attention_heads",
    "vocabularySize": "vocabulary_size",
}
"""What may be searched, as the student's configuration calls it: outside, inside."""
_WORDS = {"hiddenLayers": "layers {}", "hiddenSize": "width {}", "attentionHeads": "heads {}", "vocabularySize": "{:,} tokens"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a shape must keep to: bytes of the model as it would be served, seconds for a text; None: no limit."""

    size: float | None = None
    latency: float | None = None

    def over(self, tried: Tried) -> float:
        """Return by how much a shape misses the limits: 0 where it keeps them, 1 for twice the limit, limits added up."""
        pairs = ((tried.size, self.size), (tried.latency, self.latency))
        return sum(max(0.0, value / limit - 1.0) for value, limit in pairs if limit is not None)


@dataclass(frozen=True, slots=True)
class Tried:
    """A shape that was measured, and trained for a short while where it keeps the limits.

    `quality` is the validation's metric (higher is better; None: not trained), `latency` the median of one text in seconds,
    `size` bytes of the model as it would be served, `macs` multiply-accumulates of a text of 32 tokens.
    """

    shape: Mapping[str, int]
    quality: float | None
    latency: float
    size: int
    macs: int
    seconds: float

    @property
    def name(self) -> str:
        """Say the shape in words."""
        return ", ".join(_WORDS[name].format(value) for name, value in self.shape.items())

    @property
    def rank(self) -> float:
        """Return the quality to order by, −∞ where there is none."""
        return -math.inf if self.quality is None else self.quality

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "shape": dict(self.shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tried:
        """Read what `to_json` gave."""
        return cls(**data)


def front(tried: Sequence[Tried]) -> list[Tried]:
    """Return what no other shape beats in both quality and latency, the fastest (and the poorest) first."""
    found: list[Tried] = []
    known = (each for each in tried if math.isfinite(each.rank))
    for each in sorted(known, key=lambda one: (one.latency, -one.rank, one.size)):
        if all(each.rank > other.rank for other in found):
            found.append(each)
    return found


def feasible(tried: Sequence[Tried], limits: Limits) -> list[Tried]:
    """Return the shapes that keep the limits."""
    return [each for each in tried if limits.over(each) == 0]


def idle(tried: Sequence[Tried], limits: Limits) -> int:
    """Return how many of the last shapes, in the order in which they were tried, brought nothing.

    A shape brings something that changes the front within the limits or, while nothing keeps them, misses them by less than all
    before it. What lies beyond the limits is often faster or better than anything within, and would hide what is found there.
    Once something keeps them, what was not trained does not count: it cost next to nothing.
    """
    count, least = 0, math.inf
    best: list[Tried] = []
    for each in tried:
        over = limits.over(each)
        if best and each.quality is None:
            continue
        now = front([*best, *feasible([each], limits)])  # a front is a front's and the next one's
        count = 0 if now != best or (not best and over < least) else count + 1
        best, least = now, min(least, over)
    return count


def choose(tried: Sequence[Tried], limits: Limits, tolerance: float) -> Tried | None:
    """Return the fastest shape whose quality is within `tolerance` (a share) of the best; None where none keeps the limits.

    It is one of the front within the limits.
    """
    best = front(feasible(tried, limits))
    if not best:
        return None
    most = best[-1].rank
    return next(each for each in best if each.rank >= most - tolerance * abs(most))


def nearest(tried: Sequence[Tried], limits: Limits) -> Tried:
    """Return the shape that misses the limits by the least."""
    return min(tried, key=lambda each: (limits.over(each), -each.rank))


def words(each: Tried, metric: str) -> str:
    """Say a shape and its figures in a line."""
    judged = "beyond the limits, not trained" if each.quality is None else f"{metric} {each.quality:.4f}"
    return f"{each.name}: {judged}, {each.latency * 1e3:.2f} ms a text, {size(each.size)}"


def found_shape(artifact: Artifact) -> dict[str, int]:
    """Return the shape that a search took, as the student's configuration calls its parts."""
    taken = json.loads((artifact.path / FILE).read_bytes())["taken"]["shape"]
    return {DIMENSIONS[name]: int(value) for name, value in taken.items()}
