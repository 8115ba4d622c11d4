"""How sure a small model is of its answer, as P(the larger model would give the same one). Runs with every request.

A raw signal is read off the answer (log-odds of the chosen label; scores of the nearest rows of an index) and mapped by a
`Calibration` that was fitted after quantization (`passes.evaluate.calibration`). A confidence of NaN is an abstention: no
comparison with a threshold lets it answer, so values that are not numbers never look sure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from stillhouse.digests import content_digest
from stillhouse.errors import DataError, SourceError

__all__ = [
    "Calibration",
    "Kind",
    "Neighbours",
    "Signal",
    "answers",
    "log_odds",
    "margin",
    "nearest",
    "peak",
    "top_score",
    "vote",
]

Floats = npt.NDArray[np.float64]
Kind = Literal["identity", "temperature", "isotonic", "platt"]
Signal = Literal["logits", "top", "margin", "vote", "peak"]
VERSION = 1  # of the JSON, and of what a signal's name means
PEAK_TEMPERATURE = 0.05


def answers(confidence: Floats, threshold: float) -> npt.NDArray[np.bool_]:
    """Return which rows the small model answers, bool [n]; the others go on. An infinite threshold sends all of them on."""
    result: npt.NDArray[np.bool_] = confidence >= threshold  # false for NaN
    return result


@dataclass(frozen=True, slots=True)
class Calibration:
    """A map from a raw signal to a probability, as data.

    `identity`: softmax as it is (a signal other than logits is cut to [0, 1]). `temperature`: softmax of logits / temperature.
    `isotonic`: linear between the knots `x` (rising) and `y` (not falling), constant outside. `platt`: the logistic function of
    slope · signal + intercept. Isotonic and Platt read logits as the log-odds of the chosen label, which keep their order
    where the softmax has long been 1.0.

    Raises:
        ValueError: a parameter cannot be one (not finite, out of its range, knots that fall).
    """

    kind: Kind
    signal: Signal = "logits"
    temperature: float = 1.0
    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    neighbours: int = 0
    """How many rows of the index the signal was read from; 0 for logits."""
    _knots: tuple[Floats, Floats] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.signal not in get_args(Signal):
            raise ValueError(f"kind {self.kind}, signal {self.signal}")
        if self.kind == "temperature" and not (self.signal == "logits" and 0 < self.temperature < math.inf):
            raise ValueError(f"temperature {self.temperature} for {self.signal}")
        if self.kind == "platt" and not (0 <= self.slope < math.inf and math.isfinite(self.intercept)):
            raise ValueError(f"slope {self.slope}, intercept {self.intercept}")
        if (self.signal == "logits") != (self.neighbours == 0) or self.neighbours < 0:
            raise ValueError(f"{self.neighbours} neighbours for {self.signal}")
        x, y = np.array(self.x, dtype=np.float64), np.array(self.y, dtype=np.float64)
        if self.kind == "isotonic":
            finite = len(x) == len(y) > 0 and bool(np.isfinite(x).all() and np.isfinite(y).all())
            if not finite or (np.diff(x) <= 0).any() or (np.diff(y) < 0).any() or y[0] < 0 or y[-1] > 1:
                raise ValueError("knots")
        object.__setattr__(self, "_knots", (x, y))

    def of_logits(self, logits: npt.NDArray[Any]) -> Floats:
        """Return P(right) of the label with the largest logit, float64 [n]; NaN where a logit is not finite.

        Logarithms of probabilities do as well: they differ from logits by a constant of the row.

        Raises:
            DataError: the logits are not [n, labels] with two labels or more.
        """
        if self.signal != "logits":
            raise DataError("this calibration is for another signal", field="calibration.signal", found=self.signal)
        if self.kind in {"isotonic", "platt"}:
            return self._mapped(log_odds(logits))
        values, finite = _checked(logits)
        scaled = (values - values.max(axis=1, keepdims=True)) / (self.temperature if self.kind == "temperature" else 1.0)
        result: Floats = np.where(finite, 1.0 / np.exp(scaled).sum(axis=1), np.nan)
        return result

    def of_signal(self, raw: npt.NDArray[Any]) -> Floats:
        """Return the confidence that belongs to raw signals of neighbours, float64 [n]; NaN where one is not finite."""
        if self.signal == "logits":
            raise DataError("this calibration is for logits", field="calibration.signal", found=self.signal)
        return self._mapped(np.asarray(raw, dtype=np.float64))

    def _mapped(self, raw: Floats) -> Floats:
        finite = np.isfinite(raw)
        safe = np.where(finite, raw, 0.0)
        if self.kind == "isotonic":
            mapped = np.interp(safe, *self._knots)
        elif self.kind == "platt":
            mapped = 0.5 * (1 + np.tanh(0.5 * (self.slope * safe + self.intercept)))  # the logistic function, without overflow
        else:
            mapped = np.clip(safe, 0.0, 1.0)
        result: Floats = np.where(finite, mapped, np.nan)
        return result

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data with the parameters of this kind only."""
        parameters: dict[str, Any] = {}
        if self.kind == "temperature":
            parameters = {"temperature": self.temperature}
        elif self.kind == "platt":
            parameters = {"slope": self.slope, "intercept": self.intercept}
        elif self.kind == "isotonic":
            parameters = {"x": list(self.x), "y": list(self.y)}
        if self.neighbours:
            parameters["neighbours"] = self.neighbours
        return {"version": VERSION, "kind": self.kind, "signal": self.signal, "parameters": parameters}

    @property
    def digest(self) -> str:
        """Return `sha256:…` over the JSON form: what an answer's trace and the artifact name it by."""
        return content_digest(self.to_json())

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        """Build from JSON data.

        Raises:
            SourceError: another version, or something that no calibration can be.
        """
        version = data.get("version") if isinstance(data, dict) else None
        if version != VERSION:
            raise SourceError(
                "this calibration has another version",
                field="calibration",
                found=str(version),
                allowed=str(VERSION),
                fix="build the model again with this version: still rebuild NAME",
            )
        try:
            given = data["parameters"]
            if not isinstance(given, dict) or type(given.get("neighbours", 0)) is not int:
                raise ValueError("parameters")
            values: dict[str, Any] = {}
            for name, value in given.items():
                if name in ("x", "y"):
                    values[name] = tuple(float(each) for each in value)
                else:
                    values[name] = value if name == "neighbours" else float(value)
            return cls(kind=data["kind"], signal=data["signal"], **values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SourceError("the calibration is not readable", field="calibration", found=str(error)) from error


def log_odds(logits: npt.NDArray[Any]) -> Floats:
    """Return log p/(1 - p) of each row's largest softmax p, float64 [n], NaN where a logit is not finite.

    Raises:
        DataError: the logits are not [n, labels] with two labels or more.
    """
    values, finite = _checked(logits)
    ordered = np.sort(values, axis=1)
    rest = ordered[:, :-1] - ordered[:, -2:-1]  # against the second largest: nothing overflows, and the sum is 1 or more
    result: Floats = np.where(finite, ordered[:, -1] - ordered[:, -2] - np.log(np.exp(rest).sum(axis=1)), np.nan)
    return result


def _checked(logits: npt.NDArray[Any]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise DataError(
            "a confidence needs logits of two labels or more", field="logits", found=str(values.shape), allowed="[n, labels]"
        )
    finite: npt.NDArray[np.bool_] = np.isfinite(values).all(axis=1)
    return (values if finite.all() else np.where(finite[:, None], values, 0.0)), finite


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest rows of an index: `scores` float64 [n, k], falling, and `rows` int64 [n, k]."""

    scores: Floats
    rows: npt.NDArray[np.int64]


def nearest(queries: npt.NDArray[Any], index: npt.NDArray[Any], k: int) -> Neighbours:
    """Return the k nearest rows of `index` by inner product (all of them where it has fewer).

    `queries` [n, dimension] and `index` [rows, dimension] are L2-normalised. A query that is not finite gets scores of NaN,
    rows of the index that are not finite come last with -inf. Equal scores are in the order of the index.

    Raises:
        DataError: the index is empty, or has another dimension.
    """
    if queries.ndim != 2 or index.ndim != 2 or not len(index) or queries.shape[1] != index.shape[1] or k < 1:
        found = f"{queries.shape} and {index.shape}, k = {k}"
        raise DataError("the queries do not fit the index", field="index", found=found, allowed="[n, d] and [rows, d]")
    finite = np.isfinite(queries).all(axis=1)
    scores = (np.where(finite[:, None], queries, 0) @ index.T).astype(np.float64)
    scores[~np.isfinite(scores)] = -np.inf
    k = min(k, len(index))
    rows = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    order = np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    chosen = np.take_along_axis(scores, rows, axis=1)
    chosen[~finite] = np.nan
    return Neighbours(chosen, rows.astype(np.int64))


def top_score(found: Neighbours) -> Floats:
    """Return the best score, float64 [n]."""
    return found.scores[:, 0]


def margin(found: Neighbours, labels: npt.NDArray[np.int64] | None = None) -> Floats:
    """Return how far the best score is above the second best, float64 [n]; NaN where there is no second.

    With `labels` of the index's rows, int64 [rows], the second best is the best one under another label; where all k have the
    same label, the last of them is a bound for it.
    """
    if found.scores.shape[1] < 2:
        return np.full(len(found.scores), np.nan)
    second = found.scores[:, 1]
    if labels is not None:
        near = labels[found.rows]
        other = near != near[:, :1]
        first = np.where(other.any(axis=1), other.argmax(axis=1), near.shape[1] - 1)
        second = np.take_along_axis(found.scores, first[:, None], axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        result: Floats = found.scores[:, 0] - second
    return result


def vote(found: Neighbours, labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the label that most of the k nearest rows have, int64 [n], and their share, float64 [n].

    Of labels with equally many, that of the nearer row. The share is NaN where the query was not finite.
    """
    near = labels[found.rows]
    counts = (near[:, :, None] == near[:, None, :]).sum(axis=2)
    winner = counts.argmax(axis=1)[:, None]
    share = np.take_along_axis(counts, winner, axis=1)[:, 0] / near.shape[1]
    chosen: npt.NDArray[np.int64] = np.take_along_axis(near, winner, axis=1)[:, 0]
    return chosen, np.where(np.isfinite(found.scores[:, 0]), share, np.nan)


def peak(found: Neighbours) -> Floats:
    """Return the best row's share in a softmax of the k scores at temperature 0.05, float64 [n]; NaN where there is no second.

    It asks how many rows are nearly as good, where `margin` looks at one. Of the signals of a search it tells best whether
    the larger model finds the same row (bench/research/README.md).
    """
    if found.scores.shape[1] < 2:
        return np.full(len(found.scores), np.nan)
    with np.errstate(invalid="ignore"):
        result: Floats = 1.0 / np.exp((found.scores - found.scores[:, :1]) / PEAK_TEMPERATURE).sum(axis=1)
    return np.where(np.isfinite(found.scores[:, 0]), result, np.nan)
