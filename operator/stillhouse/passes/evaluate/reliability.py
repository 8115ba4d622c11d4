"""How true a confidence is: expected calibration error, Brier score and log-loss, each with its interval.

Measure on rows that the calibration was not fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError
from stillhouse.inference.confidence import Calibration
from stillhouse.passes.evaluate.intervals import SEED, Interval, bootstrap

__all__ = ["Reliability", "auroc", "before_and_after", "calibration_error", "reliability"]

Floats = npt.NDArray[np.float64]
Bins = Literal["width", "mass"]
BINS = 15
LEAST_P = 1e-15
FLOOR_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Reliability:
    """Figures of a confidence on `n` rows that have one; `abstained` rows have none and are in no figure.

    `ece_width`, `ece_mass`: expected calibration error over bins of equal width, and of equal mass. `floor_width`,
    `floor_mass`: what a perfectly calibrated model with these confidences would show on so few rows, in the mean: the error
    is biased upward, and is no evidence against a model until it is above that (Bröcker & Smith 2007).
    """

    ece_width: Interval
    ece_mass: Interval
    floor_width: float
    floor_mass: float
    brier: Interval
    nll: Interval
    accuracy: float
    confidence: float
    n: int
    abstained: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "eceWidth": self.ece_width.to_json(),
            "eceMass": self.ece_mass.to_json(),
            "floorWidth": self.floor_width,
            "floorMass": self.floor_mass,
            "brier": self.brier.to_json(),
            "nll": self.nll.to_json(),
            "accuracy": self.accuracy,
            "confidence": self.confidence,
            "n": self.n,
            "abstained": self.abstained,
        }


def calibration_error(confidence: Floats, hit: npt.NDArray[Any], bins: int = BINS, by: Bins = "width") -> float:
    """Return Σ over bins of (rows / n) · |mean hit - mean confidence| (Naeini et al. 2015).

    Bins of equal `width` part [0, 1]; those of equal `mass` part the sorted rows, ties together. NaN without rows.
    """
    if not len(confidence):
        return float("nan")
    place = _places(confidence, bins, by)
    gap = np.bincount(place, np.asarray(hit, dtype=np.float64) - confidence)
    return float(np.abs(gap).sum() / len(confidence))


def _places(confidence: Floats, bins: int, by: Bins) -> npt.NDArray[np.int64]:
    if by == "width":
        # Bins are closed on the right, as Guo et al. have them, so that 1.0 is in the last one; 0 joins the first.
        width: npt.NDArray[np.int64] = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
        return width
    ordered = np.sort(confidence)
    edges = ordered[(np.arange(1, bins) * len(ordered)) // bins]
    places: npt.NDArray[np.int64] = np.searchsorted(edges, confidence, side="right")
    return places


def reliability(confidence: Floats, hit: npt.NDArray[Any], bins: int = BINS) -> Reliability:
    """Return every figure; `hit` [n] is 1 where the answer was right (agreed).

    Resampling adds the noise that the error is biased by once more: its interval is stretched to hold the estimate.

    Raises:
        DataError: no row has a confidence.
    """
    known = np.isfinite(confidence)
    c, h = confidence[known], np.asarray(hit, dtype=np.float64)[known]
    if not len(c):
        raise DataError("no row has a confidence that is a number", field="spec.gate.data", found=f"{len(confidence)} rows")
    brier = (c - h) ** 2
    sure = np.clip(c, LEAST_P, 1 - LEAST_P)
    nll = -(h * np.log(sure) + (1 - h) * np.log1p(-sure))
    found = {by: _held(bootstrap(lambda rows, by=by: calibration_error(c[rows], h[rows], bins, by), len(c))) for by in _BY}  # type: ignore[misc]
    floors = _floors(c, bins)
    return Reliability(
        ece_width=found["width"],
        ece_mass=found["mass"],
        floor_width=floors["width"],
        floor_mass=floors["mass"],
        brier=bootstrap(lambda rows: float(brier[rows].mean()), len(c)),
        nll=bootstrap(lambda rows: float(nll[rows].mean()), len(c), within=(0.0, -float(np.log(LEAST_P)))),
        accuracy=float(h.mean()),
        confidence=float(c.mean()),
        n=len(c),
        abstained=int((~known).sum()),
    )


_BY: tuple[Bins, Bins] = ("width", "mass")


def _floors(confidence: Floats, bins: int) -> dict[Bins, float]:
    rng = np.random.default_rng(SEED)
    places = {by: _places(confidence, bins, by) for by in _BY}
    found: dict[Bins, list[float]] = {by: [] for by in _BY}
    for _ in range(FLOOR_ROUNDS):
        gaps = (rng.random(len(confidence)) < confidence) - confidence
        for by in _BY:
            found[by].append(float(np.abs(np.bincount(places[by], gaps)).sum() / len(confidence)))
    return {by: float(np.mean(values)) for by, values in found.items()}


def _held(interval: Interval) -> Interval:
    return Interval(interval.estimate, min(interval.low, interval.estimate), max(interval.high, interval.estimate), interval.n)


def before_and_after(
    logits: Mapping[str, npt.NDArray[Any]], target: npt.NDArray[np.int64], calibrations: Mapping[str, Calibration]
) -> dict[str, dict[str, Reliability]]:
    """Return model → calibration → figures, with `raw` (softmax as it is) among the calibrations.

    `logits` by model, for example `fp32` and `int8`, float [n, labels] on the same rows; `target` int64 [n] is what counts as
    right. A calibration fitted on the one model and applied to the other shows why it is fitted after quantization.

    Raises:
        DataError: no row of a model is finite.
    """
    report: dict[str, dict[str, Reliability]] = {}
    for model, values in logits.items():
        finite = np.isfinite(values).all(axis=1)
        hit = finite & (np.where(finite[:, None], values, 0).argmax(axis=1) == target)
        each = {"raw": Calibration("identity"), **calibrations}
        report[model] = {name: reliability(calibration.of_logits(values), hit) for name, calibration in each.items()}
    return report


def auroc(signal: npt.NDArray[Any], hit: npt.NDArray[Any]) -> float:
    """Return P(signal of a hit > signal of a miss), ties half (Mann-Whitney); NaN where there are none of either.

    A signal that is not finite counts as the lowest.
    """
    values = np.asarray(signal, dtype=np.float64)
    values = np.where(np.isfinite(values), values, -np.inf)
    right = np.asarray(hit, dtype=np.bool_)
    hits = int(right.sum())
    misses = len(right) - hits
    if not hits or not misses:
        return float("nan")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2  # the mean rank, from 1, of those with the same value
    return float((middle[place][right].sum() - hits * (hits + 1) / 2) / (hits * misses))
