"""What is searched among, and which of the tried shapes is taken."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stillhouse.passes.base import Artifact
from stillhouse.sizes import size

__all__ = ["DIMENSIONS", "FILE", "Limits", "Tried", "choose", "found_shape", "front", "nearest", "words"]

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
    """A shape that was trained for a short while and measured.

    `quality` is the validation's metric (higher is better), `latency` the median of one text in seconds, `size` bytes of the
    model as it would be served, `macs` multiply-accumulates of a text of 32 tokens.
    """

    shape: Mapping[str, int]
    quality: float
    latency: float
    size: int
    macs: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "shape": dict(self.shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tried:
        """Read what `to_json` gave."""
        return cls(**data)


def front(tried: Sequence[Tried]) -> list[Tried]:
    """Return what no other shape beats in both quality and latency, the fastest first."""
    found: list[Tried] = []
    for each in sorted(tried, key=lambda one: (one.latency, -one.quality, one.size)):
        if math.isfinite(each.quality) and all(each.quality > other.quality for other in found):
            found.append(each)
    return found


def choose(tried: Sequence[Tried], limits: Limits, tolerance: float) -> Tried | None:
    """Return the fastest shape whose quality is within `tolerance` (a share) of the best; None where none keeps the limits."""
    fit = [each for each in tried if limits.over(each) == 0 and math.isfinite(each.quality)]
    if not fit:
        return None
    best = max(each.quality for each in fit)
    good = [each for each in fit if each.quality >= best - tolerance * abs(best)]
    return min(good, key=lambda each: (each.latency, each.size, -each.quality))


def nearest(tried: Sequence[Tried], limits: Limits) -> Tried:
    """Return the shape that misses the limits by the least."""
    return min(tried, key=lambda each: (limits.over(each), -each.quality))


def words(each: Tried, metric: str = "") -> str:
    """Say a shape and its figures in a line."""
    shape = ", ".join(_WORDS[name].format(value) for name, value in each.shape.items())
    return f"{shape}: {metric or 'quality'} {each.quality:.4f}, {each.latency * 1e3:.2f} ms a text, {size(each.size)}"


def found_shape(artifact: Artifact) -> dict[str, int]:
    """Return the shape that a search took, as the student's configuration calls its parts."""
    taken = json.loads((artifact.path / FILE).read_bytes())["taken"]["shape"]
    return {DIMENSIONS[name]: int(value) for name, value in taken.items()}
