"""Fitting what makes a confidence true, on the calibration split, after quantization. Measuring it: `reliability`.

Rows whose signal is not finite abstain when they are served, so they take no part here either.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError
from stillhouse.inference.confidence import Calibration, Signal
from stillhouse.inference.outliers import OutlierKind, OutlierRule

__all__ = ["fit_isotonic", "fit_outlier", "fit_platt", "fit_temperature", "pool_adjacent_violators"]

Floats = npt.NDArray[np.float64]
COLDEST, HOTTEST = 0.05, 20.0


def fit_temperature(logits: npt.NDArray[Any], target: npt.NDArray[np.int64]) -> Calibration:
    """Return the temperature with the least negative log-likelihood of `target`, int64 [n] (Guo et al. 2017).

    The likelihood is convex in 1/T, so that its derivative, mean E[z] - z_target, has one zero, which is bisected. The answer
    lies in [0.05, 20]: the rows of a model that is always right would have T = 0, which no number of rows shows.

    Raises:
        DataError: no row is finite.
    """
    values = np.asarray(logits, dtype=np.float64)
    finite = np.isfinite(values).all(axis=1)
    _some(finite)
    values, chosen = values[finite], target[finite]
    values = values - values.max(axis=1, keepdims=True)
    wanted = values[np.arange(len(values)), chosen]

    def slope(beta: float) -> float:
        weights = np.exp(beta * values)
        return float(((weights * values).sum(axis=1) / weights.sum(axis=1) - wanted).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        high = low
    elif slope(high) <= 0:
        low = high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return Calibration("temperature", temperature=2 / (low + high))


def pool_adjacent_violators(values: npt.NDArray[Any], weights: npt.NDArray[Any] | None = None) -> Floats:
    """Return the sequence that does not fall and is nearest to `values` in weighted least squares, float64 [n].

    Neighbours that fall are pooled into their mean until none does (Ayer et al. 1955; Barlow et al. 1972): linear in n.
    `weights` are positive.
    """
    given = np.asarray(values, dtype=np.float64)
    each = np.ones(len(given)) if weights is None else np.asarray(weights, dtype=np.float64)
    means: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(given.tolist(), each.tolist(), strict=True):
        mean, mass, count = value, weight, 1
        while means and means[-1] >= mean:
            before, size = means.pop(), masses.pop()
            mean = (before * size + mean * mass) / (size + mass)
            mass += size
            count += counts.pop()
        means.append(mean)
        masses.append(mass)
        counts.append(count)
    return np.repeat(np.array(means, dtype=np.float64), counts)


def fit_isotonic(
    signal: npt.NDArray[Any],
    hit: npt.NDArray[Any],
    weights: npt.NDArray[Any] | None = None,
    *,
    name: Signal = "logits",
    neighbours: int = 0,
) -> Calibration:
    """Return the rising step-and-line map from `signal` [n] to P(hit) (Zadrozny & Elkan 2002).

    Rows with equal signals are one row with their mean. A block of pooled rows is flat; between blocks the map is linear.
    No block says less than 1/(n + 2) or more than (n + 1)/(n + 2): of n rows, none shows what never, or always, happens.

    Args:
        signal: log-odds of the chosen label for `logits`, else the neighbours' signal.
        hit: 1 where the small model is right (agrees), else 0.
        weights: positive, of the rows.
        name: what the signal is.
        neighbours: how many rows of the index it was read from.

    Raises:
        DataError: no row is finite.
    """
    raw, right, each = _rows(signal, hit, weights)
    x, place = np.unique(raw, return_inverse=True)
    mass = np.bincount(place, each)
    fitted = pool_adjacent_violators(np.bincount(place, each * right) / mass, mass)
    least = 1 / (len(raw) + 2)
    fitted = np.clip(fitted, least, 1 - least)
    ends = np.ones(len(x), dtype=np.bool_)  # of a flat stretch, its two ends say everything
    ends[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return Calibration(
        "isotonic", name, x=tuple(x[ends].tolist()), y=tuple(fitted[ends].tolist()), neighbours=_neighbours(name, neighbours)
    )


def fit_platt(signal: npt.NDArray[Any], hit: npt.NDArray[Any], *, name: Signal = "logits", neighbours: int = 0) -> Calibration:
    """Return the logistic map from `signal` [n] to P(hit) (Platt 1999), by Newton's method (Lin, Lin & Weng 2007).

    The targets are Platt's, (hits + 1)/(hits + 2) and 1/(misses + 2), so that separable rows have a solution too. A signal
    that speaks against hits gets slope 0, the base rate: more of it must never look less sure.

    Raises:
        DataError: no row is finite.
    """
    raw, right, _ = _rows(signal, hit, None)
    hits = float(right.sum())
    targets = np.where(right > 0.5, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2))
    centre, spread = float(raw.mean()), float(raw.std())
    scaled = (raw - centre) / spread if spread > 0 else np.zeros(len(raw))
    base = float(targets.mean())
    a, b = 0.0, math.log(base / (1 - base))

    def loss(slope: float, intercept: float) -> float:
        z = slope * scaled + intercept
        return float((np.logaddexp(0.0, z) - targets * z).mean())

    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (a * scaled + b)))
        error, weight = p - targets, np.maximum(p * (1 - p), 1e-12)
        gradient = np.array([(error * scaled).mean(), error.mean()])
        cross = (weight * scaled).mean()
        hessian = np.array([[(weight * scaled**2).mean() + 1e-12, cross], [cross, weight.mean() + 1e-12]])
        step = np.linalg.solve(hessian, gradient)
        size, now = 1.0, loss(a, b)
        while size > 1e-10 and loss(a - size * step[0], b - size * step[1]) > now - 1e-4 * size * float(gradient @ step):
            size /= 2
        a, b = a - size * float(step[0]), b - size * float(step[1])
        if float(np.abs(gradient).max()) < 1e-10:
            break
    if a <= 0 or spread == 0:
        slope, intercept = 0.0, math.log(base / (1 - base))
    else:
        slope, intercept = a / spread, b - a * centre / spread
    return Calibration("platt", name, slope=slope, intercept=intercept, neighbours=_neighbours(name, neighbours))


def fit_outlier(kind: OutlierKind, values: npt.NDArray[Any], keep: float = 0.99, centroid: tuple[float, ...] = ()) -> OutlierRule:
    """Return the rule that leaves at least the share `keep` of inputs like these inside, on average over samples.

    The limit is the ⌈(n + 1) · keep⌉-th smallest distance of the n calibration rows: for rows that are exchangeable with
    them, the probability to lie beyond it is at most 1 - keep (split conformal prediction, Vovk et al. 2005). Where there are
    fewer rows than that rank, it is infinite.

    Raises:
        DataError: no row is finite, or `keep` is not within (0, 1).
    """
    if not 0 < keep < 1:
        raise DataError("a share of usual inputs to keep is within 0 and 1", field="keep", found=str(keep))
    distances = OutlierRule(kind, math.inf, centroid).distance(values)
    known = np.sort(distances[np.isfinite(distances)])
    _some(np.isfinite(distances))
    rank = math.ceil((len(known) + 1) * keep)
    return OutlierRule(kind, float(known[rank - 1]) if rank <= len(known) else math.inf, centroid)


def _neighbours(name: Signal, count: int) -> int:
    if (name == "logits") != (count == 0):
        raise DataError("logits have no neighbours, every other signal has", field=name, found=f"{count} neighbours")
    return count


def _rows(signal: npt.NDArray[Any], hit: npt.NDArray[Any], weights: npt.NDArray[Any] | None) -> tuple[Floats, Floats, Floats]:
    raw, right = np.asarray(signal, dtype=np.float64), np.asarray(hit, dtype=np.float64)
    each = np.ones(len(raw)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(raw) == len(right) == len(each) or (each <= 0).any():
        raise DataError("every row needs a signal, a hit and a positive weight", field="calibration", found=str(raw.shape))
    finite = np.isfinite(raw)
    _some(finite)
    return raw[finite], right[finite], each[finite]


def _some(finite: npt.NDArray[np.bool_]) -> None:
    if not finite.any():
        raise DataError(
            "no row has a confidence that is a number",
            field="spec.gate.data",
            found=f"{len(finite)} rows",
            fix="give calibration rows, or look at why the model's answers are not numbers",
        )
