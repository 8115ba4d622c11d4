"""Intervals of shares without numpy or scipy, which would cost an edge process more memory than all the rest of the watch.

The ends of Clopper and Pearson are quantiles of beta distributions. Those have no need of whole numbers, so a weighted sample
has an interval too: that of its *effective* size (Korn & Graubard 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Share", "share"]

_MOST = 100_000.0
"""An interval of more items is computed as if there were so many: it is ±0.3 points wide and costs milliseconds."""
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Share:
    """An estimate with its interval; `n` independent items would tell as much. All but `n` are NaN where nothing is known."""

    estimate: float
    low: float
    high: float
    n: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; NaN is null."""
        ends = {"estimate": self.estimate, "low": self.low, "high": self.high}
        return {**{name: _rounded(value) for name, value in ends.items()}, "n": round(self.n, 1)}


def share(estimate: float, n: float, tail: float = 0.025) -> Share:
    """Return the interval of an estimated share of `n` (effective) items; each end is wrong with at most `tail`.

    For whole counts it is Clopper and Pearson's, exactly.
    """
    if n <= 0 or math.isnan(estimate):
        return Share(math.nan, math.nan, math.nan, 0.0)
    estimate = min(1.0, max(0.0, estimate))
    size = min(n, _MOST)
    hits = estimate * size
    low = 0.0 if hits <= 0 else _quantile(tail, hits, size - hits + 1)
    high = 1.0 if hits >= size else _quantile(1 - tail, hits + 1, size - hits)
    return Share(estimate, low, high, n)


def _quantile(p: float, a: float, b: float) -> float:
    """Return the p-quantile of a beta(a, b), to ten digits, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(36):
        middle = (low + high) / 2
        if _beta(middle, a, b) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), 0 < x < 1."""
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of I_x(a, b) (Abramowitz & Stegun 26.5.8) by Lentz's method; about √max(a, b) steps."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, 5000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + step * d)
            c = _not_zero(1 + step / c)
            result *= c * d
        if abs(c * d - 1) < 1e-13:
            break
    return result


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
