"""Accuracies of `bench.few` with their intervals, and the ratios between the student and what stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.passes.evaluate.intervals import Interval

__all__ = ["ROUNDS", "closed_of", "gap_closed", "interval", "points_lost", "summary"]

ROUNDS = 2000


def ratio(mine: float, theirs: float) -> float:
    """Return the quotient of two means."""
    return mine / max(1e-9, theirs)


def points_lost(mine: float, theirs: float) -> float:
    """Return how many points of a hundred the first mean is below the second."""
    return 100 * (theirs - mine)


def interval(
    draws: Sequence[npt.NDArray[np.float64]],
    others: Sequence[npt.NDArray[np.float64]] | None = None,
    compare: Callable[[float, float], float] = ratio,
) -> Interval:
    """Bootstrap the mean, or what `compare` makes of two means, over items and seeds together, the folds pooled.

    Args:
        draws: for each fold float64 [seeds, items], 1 where right.
        others: the same of the other side: items and seeds are paired.
        compare: of this side's mean and the other's.
    """
    rng = np.random.default_rng(20261122)

    def mean(seeds: list[Any], items: list[Any], side: Sequence[npt.NDArray[np.float64]]) -> float:
        return float(np.concatenate([each[s][:, i].mean(0) for each, s, i in zip(side, seeds, items, strict=True)]).mean())

    def figure(seeds: list[Any], items: list[Any]) -> float:
        mine = mean(seeds, items, draws)
        return mine if others is None else compare(mine, mean(seeds, items, others))

    everything = [np.arange(each.shape[0]) for each in draws], [np.arange(each.shape[1]) for each in draws]
    values = []
    for _ in range(ROUNDS):
        seeds = [rng.integers(0, each.shape[0], each.shape[0]) for each in draws]
        values.append(figure(seeds, [rng.integers(0, each.shape[1], each.shape[1]) for each in draws]))
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(figure(*everything), float(low), float(high), sum(each.shape[1] for each in draws))


def macro_f1(truth: npt.NDArray[np.int64], said: npt.NDArray[np.int64], classes: int) -> float:
    """Mean F1 over classes that occur in either; int64 [items] both."""
    right = np.bincount(truth[truth == said], minlength=classes)
    both = np.bincount(truth, minlength=classes) + np.bincount(said, minlength=classes)
    return float((2 * right[both > 0] / both[both > 0]).mean())


def gap_closed(found: Sequence[Mapping[str, Any]], taught: str = "student", least: float = 0.02) -> dict[str, Interval]:
    """How much of what lies between hard labels and the teacher the student has, in macro-F1 of all folds pooled.

    Gives `gap` (T - S_hard) and, where it is `least` or more, `gap_closed`, (S_kd - S_hard) / (T - S_hard): below that the ratio
    says nothing. Items and seeds are drawn together; a draw in which the gap is not above zero does not count.
    """
    names = sorted({label for fold in found for label in fold["truth"]})
    number = {name: index for index, name in enumerate(names)}

    def coded(labels: Any) -> npt.NDArray[np.int64]:
        flat = [number.get(label, len(names)) for label in np.asarray(labels).ravel()]
        return np.array(flat, dtype=np.int64).reshape(np.shape(labels))

    truth = np.concatenate([coded(fold["truth"]) for fold in found])
    rows = {
        side: np.concatenate([coded(fold["answers"][side]) for fold in found], axis=1)
        for side in (taught, "hard labels alone", "teacher")
    }
    rng = np.random.default_rng(20261122)

    def scores(seeds: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> list[float]:
        asked = truth[items]
        return [float(np.mean([macro_f1(asked, side[seed, items], len(names) + 1) for seed in seeds])) for side in rows.values()]

    count, n = len(rows["teacher"]), len(truth)
    whole = scores(np.arange(count), np.arange(n))
    draws = np.array([scores(rng.integers(0, count, count), rng.integers(0, n, n)) for _ in range(ROUNDS)])

    result = {"gap": _over(whole[2] - whole[1], draws[:, 2] - draws[:, 1], n)}
    if result["gap"].estimate >= least:
        result["gap_closed"] = closed_of(whole, draws, n)
    return result


def closed_of(whole: Sequence[float], draws: npt.NDArray[np.float64], n: int) -> Interval:
    """Give (taught - hard) / (teacher - hard) of scores in this order, with its interval.

    Args:
        whole: the three scores.
        draws: float64 [draws, 3], the same of each draw; one in which the gap is not above zero does not count.
        n: items.
    """
    gaps = draws[:, 2] - draws[:, 1]
    shares = np.where(gaps > 0, (draws[:, 0] - draws[:, 1]) / np.where(gaps > 0, gaps, 1.0), np.nan)
    return _over((whole[0] - whole[1]) / (whole[2] - whole[1]), shares, n)


def _over(value: float, values: npt.NDArray[np.float64], n: int) -> Interval:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(value), float(low), float(high), n)


def summary(shots: int, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the rows and ratios of one number of labels a class, the folds pooled."""
    from sklearn.metrics import f1_score

    right = {
        name: [(fold["answers"][name] == fold["truth"]).astype(np.float64) for fold in found] for name in found[0]["answers"]
    }
    rows = {}
    for name, draws in right.items():
        same = [(fold["answers"][name] == fold["answers"]["teacher"]).mean() for fold in found]
        f1 = [f1_score(fold["truth"], answers, average="macro") for fold in found for answers in fold["answers"][name]]
        rows[name] = {**asdict(interval(draws)), "macroF1": float(np.mean(f1)), "agreement": float(np.mean(same))}
    ratios = {
        f"few_vs_tfidf@{shots}": interval(right["student"], right["TF-IDF + LinearSVC"]),
        f"few_vs_hard@{shots}": interval(right["student"], right["hard labels alone"]),
        f"teacher_vs_tfidf@{shots}": interval(right["teacher"], right["TF-IDF + LinearSVC"]),
        f"student_vs_teacher@{shots}": interval(right["student"], right["teacher"]),
    }
    if "hard pseudo-labels" in right:
        ratios[f"few_vs_pseudo@{shots}"] = interval(right["student"], right["hard pseudo-labels"])
    ratios |= {f"{name}@{shots}": value for name, value in gap_closed(found).items()}
    ceiling = float(np.mean([fold["ceiling"] for fold in found]))
    return {
        "rows": rows,
        "ratios": ratios,
        "ceiling": ceiling,
        "chosen": [fold["chosen"] for fold in found],
        "hard": [fold["scored"] for fold in found],
    }
