"""Intervals: what is compared with a limit is the unfavourable end, never the estimate alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Interval",
    "Share",
    "block_interval",
    "bootstrap",
    "clopper_pearson",
    "fewest_for_share",
    "fewest_for_upper_end",
    "most_below",
    "quantile_interval",
]

ROUNDS = 1000
SEED = 20_240_501
Z95 = 1.959964
TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate from `n` items with a 95 % interval, both ends included.

    An infinite end is one that this few items cannot bound; NaN is a figure that cannot be computed.
    """

    estimate: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; what is not finite becomes null, which JSON has no number for."""
        ends = {"estimate": self.estimate, "low": self.low, "high": self.high}
        return {**{name: value if math.isfinite(value) else None for name, value in ends.items()}, "n": self.n}

    @classmethod
    def from_json(cls, data: Mapping[str, float | int | None]) -> Interval:
        """Read what `to_json` gave: an end that is null is infinite, and without an estimate there is no figure."""
        estimate, low, high = (data.get(name) for name in ("estimate", "low", "high"))
        n = int(data.get("n") or 0)
        if estimate is None:
            return cls(math.nan, math.nan, math.nan, n)
        return cls(estimate, -math.inf if low is None else low, math.inf if high is None else high, n)

    def reaches(self, other: Interval) -> bool:
        """Return whether some value lies in both intervals: then noise may be all that tells the two apart."""
        return self.high >= other.low and other.high >= self.low


@dataclass(frozen=True, slots=True)
class Share(Interval):
    """The student's figure as a share of the teacher's, with both: a poor share does not say which of the two is poor."""

    student: Interval
    teacher: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the interval with both figures beside it, which reports of before do not have."""
        return {**Interval.to_json(self), "student": self.student.to_json(), "teacher": self.teacher.to_json()}


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    n: int,
    rounds: int = ROUNDS,
    within: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """Return the percentile bootstrap interval of a statistic (Efron 1979).

    `statistic` takes the indices of a sample, int64 [n]; pairing (the same items for student and teacher) is its own
    affair. A sample that the statistic is not defined on (NaN) does not count. The seed is fixed: the same items give
    the same interval.

    Where all samples agree (every answer right, or a single row) resampling knows nothing of what has not been seen. n
    items without an exception leave room for a share of 1 - 0.025^(1/n) of them (Clopper & Pearson 1934), and those may
    lie anywhere `within` the statistic's range: the interval reaches as far. So five right answers of five are
    [0.48, 1], and no number of rows shows a perfect figure.
    """
    estimate = float(statistic(np.arange(n)))
    if math.isnan(estimate):
        return Interval(estimate, estimate, estimate, n)
    rng = np.random.default_rng(SEED)
    values = np.array([statistic(rng.integers(0, n, n)) for _ in range(rounds)])
    low, high = (float(end) for end in np.nanpercentile(values, [2.5, 97.5]))
    if low == high:
        unseen = 1 - TAIL ** (1 / n)
        low = min(low, estimate - unseen * (estimate - within[0]))
        high = max(high, estimate + unseen * (within[1] - estimate))
    return Interval(estimate, low, high, n)


def quantile_interval(values: npt.NDArray[np.float64], q: float) -> Interval:
    """Return the distribution-free interval of a quantile from order statistics.

    The number of observations below the q-quantile is binomial(n, q); its normal approximation gives the ranks of the
    two order statistics that enclose it with 95 % (David & Nagaraja, Order Statistics, 7.1). Where there are too few
    values for the outermost one to enclose it (q^n > 2.5 %: fewer than 368 values for q = 0.99), that end is infinite.
    """
    ordered = np.sort(values)
    n = len(ordered)
    below, above = _upper_rank(n, 1 - q), _upper_rank(n, q)
    return Interval(
        float(np.quantile(ordered, q)),
        -math.inf if below is None else float(ordered[n - 1 - below]),  # the lower end is the upper one, counted from above
        math.inf if above is None else float(ordered[above]),
        n,
    )


def clopper_pearson(count: int, n: int) -> Interval:
    """Return the exact interval of a share of which `count` of `n` independent rows were seen (Clopper & Pearson 1934).

    Each end alone holds with at least 97.5 %.
    """
    if not 0 <= count <= n or not n:
        raise ValueError(f"{count} of {n}")
    low = 0.0 if count == 0 else 1.0 - _upper_share(n - count, n)
    high = 1.0 if count == n else _upper_share(count, n)
    return Interval(count / n, low, high, n)


def most_below(share: float, n: int) -> int | None:
    """Return the largest count of `n` whose Clopper-Pearson upper end is at most `share`; None: even 0 of n leaves more open.

    No end is computed for it: the upper end is at most `share` where P(X <= count; n, share) is at most 2.5 %.
    """
    if share >= 1:
        return n
    if share <= 0 or _binomial_tail(0, n, share) > TAIL:
        return None
    low, high = 0, n  # the answer is low or above it, and below high: of n, the upper end is 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _binomial_tail(middle, n, share) <= TAIL else (low, middle)
    return low


def _upper_share(count: int, n: int) -> float:
    """Return the share of which 2.5 % of samples show `count` or fewer (count < n), to the last bits, by bisection."""
    low, high = count / n, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if _binomial_tail(count, n, middle) > TAIL else (low, middle)
    return high


def _binomial_tail(count: int, n: int, p: float) -> float:
    """Return P(X <= count) of a binomial(n, p), 0 < p < 1; relative error about 1e-12 · n."""
    terms = (
        _log_coefficients(n)[: count + 1] + np.arange(count + 1) * math.log(p) + np.arange(n, n - count - 1, -1) * math.log1p(-p)
    )
    top = float(terms.max())
    return min(1.0, math.exp(top) * float(np.exp(terms - top).sum()))


@lru_cache(maxsize=8)
def _log_coefficients(n: int) -> npt.NDArray[np.float64]:
    """Return log of n over k for k = 0 … n."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    result: npt.NDArray[np.float64] = factorials[n] - factorials - factorials[::-1]
    return result


def fewest_for_upper_end(q: float) -> int:
    """Return how many values it takes until `quantile_interval` gives the q-quantile a finite upper end: 368 for 0.99."""
    return next(n for n in itertools.count(1) if _upper_rank(n, q) is not None)


def fewest_for_share(share: float) -> int | None:
    """Return how many rows without an exception it takes to show a share of (0, 1); None: no number of rows shows 1."""
    return math.ceil(math.log(TAIL) / math.log(share)) if share < 1 else None


def _upper_rank(n: int, q: float) -> int | None:
    """Return the rank, from 0, of the upper end among n sorted values; None where no value encloses the quantile."""
    rank = math.ceil(n * q + Z95 * math.sqrt(n * q * (1 - q)))
    if rank < n:
        return rank
    return n - 1 if q**n <= TAIL else None


def block_interval(blocks: Sequence[float]) -> Interval:
    """Return the median of independent blocks with the two blocks that enclose the true one with at least 95 %.

    The number of blocks below the median is binomial(n, ½), which gives the ranks (the sign test's interval). Six blocks
    need their whole range (96.9 %); more blocks give a narrower one; fewer cannot bound it.
    """
    ordered = np.sort(np.array(blocks, dtype=np.float64))
    n = len(ordered)
    outside, rank = 0.0, 0
    while (outside := outside + math.comb(n, rank) / 2**n) <= TAIL:
        rank += 1
    low, high = (float(ordered[rank - 1]), float(ordered[n - rank])) if rank else (-math.inf, math.inf)
    return Interval(float(np.median(ordered)), low, high, n)
