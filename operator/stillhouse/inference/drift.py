"""How far the confidences of today's requests are from those that a threshold was solved on: the population stability index.

The reference is a histogram whose bins hold equally many of the reference's rows, with one bin more for abstentions (NaN): it
is made once, after the threshold was solved, and lies with the cascade. Counting a request costs one bisection.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from stillhouse.errors import SourceError

__all__ = ["Reference", "by_chance", "psi"]

VERSION = 1
BINS = 10
_MOST = 2**53
_HALF = 0.5
"""What every bin is given beforehand: an empty one would make the index infinite."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Counts of confidences between `edges`, which rise: `counts` has one more, and the last of all, `abstained`, is of NaN.

    Raises:
        ValueError: it cannot be a histogram.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    abstained: int = 0

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False))
        if not rising or not all(map(math.isfinite, self.edges)) or len(self.counts) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges, {len(self.counts)} counts")
        if min(*self.counts, self.abstained) < 0 or not 0 < self.total < _MOST:
            raise ValueError("counts")

    @classmethod
    def of(cls, confidences: Sequence[float], bins: int = BINS) -> Reference:
        """Build from the confidences of all rows of a split, NaN where there was none (an array's `tolist()`).

        Equal confidences are never parted, so there are fewer bins where many are equal.

        Raises:
            ValueError: there are none.
        """
        known = sorted(each for each in confidences if not math.isnan(each))
        cuts = {known[(place * len(known)) // bins] for place in range(1, bins)} if known else set()
        edges = tuple(sorted(cut for cut in cuts if cut > known[0]))
        counts = [0] * (len(edges) + 1)
        for each in known:
            counts[bisect_right(edges, each)] += 1
        return cls(edges, tuple(counts), len(confidences) - len(known))

    @property
    def total(self) -> int:
        """Return the number of rows."""
        return sum(self.counts) + self.abstained

    @property
    def cells(self) -> tuple[int, ...]:
        """Return all counts, that of abstentions last."""
        return (*self.counts, self.abstained)

    def place(self, confidence: float) -> int:
        """Return the cell that a confidence belongs to."""
        return bisect_right(self.edges, confidence) if confidence == confidence else len(self.counts)  # noqa: PLR0124

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"version": VERSION, "edges": list(self.edges), "counts": list(self.counts), "abstained": self.abstained}

    @classmethod
    def from_json(cls, data: Any) -> Reference:
        """Build from JSON data.

        Raises:
            SourceError: another version, or something that no histogram can be.
        """
        try:
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']}")
            edges = tuple(float(each) for each in data["edges"])
            return cls(edges, tuple(int(each) for each in data["counts"]), int(data["abstained"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SourceError(
                "the histogram of confidences is not readable",
                field="confidences",
                found=str(error),
                allowed=f"version {VERSION}",
                fix="build the model again with this version: still rebuild NAME",
            ) from error


def psi(reference: Sequence[float], now: Sequence[float]) -> float:
    """Return Σ (q - p) · ln(q / p) over the shares p and q of two histograms with the same cells; 0 where they are alike.

    By habit below 0.1 is no change and above 0.25 a large one; what chance alone shows depends on the rows: `by_chance`.
    """
    before, after = sum(reference) + _HALF * len(reference), sum(now) + _HALF * len(now)
    total = 0.0
    for one, two in zip(reference, now, strict=True):
        p, q = (one + _HALF) / before, (two + _HALF) / after
        total += (q - p) * math.log(q / p)
    return total


def by_chance(cells: int, reference: float, now: float, tail: float) -> float:
    """Return the index that rows of one and the same distribution exceed with probability `tail`.

    Without a change it is (1/m + 1/n) · χ² with one degree of freedom less than there are cells (Yurdakul & Naranjo 2020); the
    quantile is Wilson and Hilferty's. `reference` and `now` are m and n, numbers of independent rows.
    """
    freedom = max(1, cells - 1)
    part = 2 / (9 * freedom)
    quantile = freedom * (1 - part + NormalDist().inv_cdf(1 - tail) * math.sqrt(part)) ** 3
    return float(quantile * (1 / reference + 1 / now))
