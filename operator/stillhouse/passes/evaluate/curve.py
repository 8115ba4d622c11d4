"""What a cascade costs and what it is worth at every threshold, as data for the artifact.

A request is answered by the first stage that is sure enough, else by the last model. What the last model answers agrees with
the last model by definition, so the agreement of the whole is 1 less the share that a stage answers, and answers otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError
from stillhouse.inference.confidence import answers
from stillhouse.passes.evaluate.intervals import Interval, bootstrap, clopper_pearson

__all__ = ["Area", "Curve", "Path", "Point", "Rows", "Tally", "as_right", "measure", "tally", "trace"]

Thresholds = tuple[float, ...]
Path = Sequence[Thresholds]
"""Thresholds (one a stage) from the safest, all infinite, to the most daring."""
MOST_POINTS = 101


@dataclass(frozen=True, slots=True)
class Rows:
    """One split as every model answered it.

    `confidence` float64 [n, stages], NaN where a stage abstains; `agrees` bool [n, stages]: whether that stage gives the
    last model's answer (or, by choice, one that is as right); `right` bool [n, stages + 1], the last model's in the last
    column, None without labels. `costs`: of an answer by each model, stages + 1 of them, in one unit.
    """

    confidence: npt.NDArray[np.float64]
    agrees: npt.NDArray[np.bool_]
    costs: tuple[float, ...]
    right: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        shape = self.confidence.shape
        labelled = self.right is None or self.right.shape == (shape[0], len(self.costs))
        if len(shape) != 2 or 0 in shape or self.agrees.shape != shape or len(self.costs) != shape[1] + 1 or not labelled:
            raise DataError(
                "every row needs a confidence and an agreement of every stage, every model a cost",
                field="spec.gate.threshold",
                found=f"{shape}, {self.agrees.shape}, {len(self.costs)} costs",
            )
        if not all(0 <= cost < math.inf for cost in self.costs):
            raise DataError("a cost is a number from 0 on", field="costs", found=str(self.costs))

    @classmethod
    def of_two(
        cls,
        confidence: npt.NDArray[np.float64],
        agrees: npt.NDArray[np.bool_],
        *,
        costs: tuple[float, float] = (0.0, 1.0),
        right: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None = None,
    ) -> Rows:
        """Build of one small model and a larger one; all arrays are [n], `right` is of the small and of the larger one."""
        both = None if right is None else np.stack(right, axis=1)
        return cls(confidence[:, None], agrees[:, None], costs, both)

    @property
    def n(self) -> int:
        """Return the number of rows."""
        return len(self.confidence)

    @property
    def stages(self) -> int:
        """Return how many models stand before the last one."""
        return self.confidence.shape[1]

    def legs(self, thresholds: Thresholds) -> npt.NDArray[np.int64]:
        """Return which model answers each row, int64 [n]; `stages` is the last one."""
        legs = np.full(self.n, self.stages, dtype=np.int64)
        for stage in reversed(range(self.stages)):
            legs[answers(self.confidence[:, stage], thresholds[stage])] = stage
        return legs

    def spent(self, thresholds: Thresholds) -> npt.NDArray[np.float64]:
        """Return what an answer by each model costs, float64 [stages + 1]: those before it have been asked as well.

        A stage that never answers is not asked.
        """
        asked = [0.0 if value == math.inf else cost for cost, value in zip(self.costs, (*thresholds, 0.0), strict=True)]
        return np.cumsum(asked)


def as_right(small: npt.NDArray[np.bool_], large: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return, bool [n], where the small model's answer is as right as the larger one's: it is right, or neither is.

    To be used as `agrees` where labels count more than likeness: a disagreement that costs nothing is none then.
    """
    return small | ~large


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts along a path of p thresholds, int64 [p] each, and the mean cost of a row, float64 [p].

    `escalated`: rows that reach the last model. `disagreeing`: rows that a stage answers, and not as the last model would.
    `right`: rows that whoever answers has right, None without labels.
    """

    escalated: npt.NDArray[np.int64]
    disagreeing: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64] | None
    cost: npt.NDArray[np.float64]


def tally(rows: Rows, path: Path) -> Tally:
    """Count along a path."""
    columns = np.arange(rows.n)
    agrees = np.concatenate([rows.agrees, np.ones((rows.n, 1), dtype=np.bool_)], axis=1)
    if rows.stages == 1:  # one sort for all: a path has as many thresholds as there are rows
        return _tally_of_two(rows, np.array([thresholds[0] for thresholds in path]))
    found = [rows.legs(thresholds) for thresholds in path]
    return Tally(
        np.array([(legs == rows.stages).sum() for legs in found]),
        np.array([(~agrees[columns, legs]).sum() for legs in found]),
        None if rows.right is None else np.array([rows.right[columns, legs].sum() for legs in found]),
        np.array([rows.spent(thresholds)[legs].mean() for thresholds, legs in zip(path, found, strict=True)]),
    )


def _tally_of_two(rows: Rows, thresholds: npt.NDArray[np.float64]) -> Tally:
    confidence = np.where(np.isnan(rows.confidence[:, 0]), -np.inf, rows.confidence[:, 0])
    order = np.argsort(-confidence, kind="stable")
    answered = np.searchsorted(-confidence[order], -thresholds, side="right")
    answered = np.minimum(answered, int((~np.isnan(rows.confidence[:, 0])).sum()))

    def first(values: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        sums: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(values[order])])[answered]
        return sums

    right = None
    if rows.right is not None:
        small, large = rows.right[:, 0], rows.right[:, 1]
        right = first(small) + int(large.sum()) - first(large)
    escalated = rows.n - answered
    cost = np.where(thresholds == math.inf, 0.0, rows.costs[0]) + rows.costs[1] * escalated / rows.n
    return Tally(escalated, first(~rows.agrees[:, 0]), right, cost)


def trace(rows: Rows) -> Path:
    """Return every distinct threshold of a cascade of two, from the safest (infinite) down; equal confidences go together."""
    if rows.stages != 1:
        raise ValueError("more than one stage: chain.pareto_path")
    confidence = rows.confidence[:, 0]
    return [(math.inf,), *((float(value),) for value in np.unique(confidence[~np.isnan(confidence)])[::-1])]


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of thresholds with 95 % intervals.

    `legs`: share of the rows that each model answers. `accuracy` and `loss` (the last model's accuracy alone, less the
    cascade's on the same rows): None without labels. `cost`: mean of a row, in the unit of the costs.
    """

    thresholds: Thresholds
    escalation: Interval
    agreement: Interval
    accuracy: Interval | None
    loss: Interval | None
    cost: float
    legs: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; an infinite threshold (nothing is answered) is null."""
        return {
            "thresholds": [_finite(value) for value in self.thresholds],
            "escalation": self.escalation.to_json(),
            "agreement": self.agreement.to_json(),
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "loss": None if self.loss is None else self.loss.to_json(),
            "cost": self.cost,
            "legs": list(self.legs),
        }


def measure(rows: Rows, thresholds: Thresholds) -> Point:
    """Measure one choice. The shares' intervals are exact where the thresholds were not chosen on these rows."""
    legs = rows.legs(thresholds)
    counts = tally(rows, [thresholds])
    if math.isinf(min(thresholds)):  # the last model answers everything, in this sample and in every other
        escalation = agreement = Interval(1.0, 1.0, 1.0, rows.n)
    else:
        escalation = clopper_pearson(int(counts.escalated[0]), rows.n)
        agreement = clopper_pearson(rows.n - int(counts.disagreeing[0]), rows.n)
    accuracy = loss = None
    if rows.right is not None:
        mine = rows.right[np.arange(rows.n), legs]
        accuracy = clopper_pearson(int(mine.sum()), rows.n)
        less = rows.right[:, -1].astype(np.float64) - mine
        loss = bootstrap(lambda chosen: float(less[chosen].mean()), rows.n, within=(-1.0, 1.0))
    shares = np.bincount(legs, minlength=rows.stages + 1) / rows.n
    return Point(thresholds, escalation, agreement, accuracy, loss, float(counts.cost[0]), tuple(shares.tolist()))


@dataclass(frozen=True, slots=True)
class Area:
    """Area under a curve of a figure over the escalation rate, from 0 to 1.

    `random` is that of escalating by lot at the same rates, `oracle` (agreement only) that of escalating exactly the
    disagreeing rows first. `gain` is (area - random) / (oracle - random): 0 by lot, 1 at best, 2 · AUROC - 1 of the
    confidence for two models. None where there is nothing to gain.
    """

    area: float
    random: float
    oracle: float | None
    gain: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """Thinned to at most 101 points for the artifact; the areas are of all of them.

    `points`, from the highest escalation: thresholds, escalation, agreement, its lower 97.5 % end, accuracy (None without
    labels), cost.
    """

    n: int
    costs: tuple[float, ...]
    points: tuple[tuple[Thresholds, float, float, float, float | None, float], ...]
    areas: dict[Literal["agreement", "accuracy"], Area]

    @classmethod
    def of(cls, rows: Rows, path: Path) -> Curve:
        """Compute the curve along a path, on any split."""
        unordered = tally(rows, path)
        path = [path[place] for place in np.argsort(-unordered.escalated, kind="stable")]  # a chain's may go back and forth
        counts = tally(rows, path)
        escalation, agreement = counts.escalated / rows.n, 1 - counts.disagreeing / rows.n
        kept = sorted({round(place) for place in np.linspace(0, len(path) - 1, min(MOST_POINTS, len(path)))})
        accuracy = None if counts.right is None else counts.right / rows.n
        points = tuple(
            (
                path[place],
                float(escalation[place]),
                float(agreement[place]),
                _low(rows, path[place], int(counts.disagreeing[place])),
                None if accuracy is None else float(accuracy[place]),
                float(counts.cost[place]),
            )
            for place in kept
        )
        areas: dict[Literal["agreement", "accuracy"], Area] = {
            "agreement": _area(escalation, agreement, float(rows.agrees[:, 0].mean()), 1.0, bounded=True)
        }
        if accuracy is not None and rows.right is not None:
            alone, last = float(rows.right[:, 0].mean()), float(rows.right[:, -1].mean())
            areas["accuracy"] = _area(escalation, accuracy, alone, last, bounded=False)
        return cls(rows.n, rows.costs, points, areas)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data for the artifact and for drawing."""
        names = ("thresholds", "escalation", "agreement", "agreementLow", "accuracy", "cost")
        points = [dict(zip(names, (list(map(_finite, point[0])), *point[1:]), strict=True)) for point in self.points]
        areas = {
            name: {"area": area.area, "random": area.random, "oracle": area.oracle, "gain": area.gain}
            for name, area in self.areas.items()
        }
        return {"version": 1, "n": self.n, "costs": list(self.costs), "points": points, "areas": areas}


def _low(rows: Rows, thresholds: Thresholds, disagreeing: int) -> float:
    return 1.0 if math.isinf(min(thresholds)) else clopper_pearson(rows.n - disagreeing, rows.n).low


def _area(
    escalation: npt.NDArray[np.float64], figure: npt.NDArray[np.float64], alone: float, last: float, *, bounded: bool
) -> Area:
    """Integrate by trapezoids: between two thresholds lie rows of one confidence, of which a share is drawn by lot."""
    x, y = np.append(escalation, 0.0), np.append(figure, alone)  # down to 0: rows that abstain would be answered last
    area = float((0.5 * (y[1:] + y[:-1]) * (x[:-1] - x[1:])).sum())
    random = (alone + last) / 2
    if not bounded:
        return Area(area, random, None, None)
    oracle = 1 - (1 - alone) ** 2 / 2
    return Area(area, random, oracle, (area - random) / (oracle - random) if oracle - random > 1e-12 else None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
