"""Accuracies of `bench.few` with their intervals, and the ratios between the student and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.passes.evaluate.intervals import Interval

__all__ = ["interval", "summary"]

ROUNDS = 2000


def interval(draws: Sequence[npt.NDArray[np.float64]], others: Sequence[npt.NDArray[np.float64]] | None = None) -> Interval:
    """Bootstrap the mean, or the ratio of two means, over items and seeds together, the folds pooled.

    Args:
        draws: for each fold float64 [seeds, items], 1 where right.
        others: the same of the other side: items and seeds are paired.
    """
    rng = np.random.default_rng(20261122)

    def mean(seeds: list[Any], items: list[Any], side: Sequence[npt.NDArray[np.float64]]) -> float:
        return float(np.concatenate([each[s][:, i].mean(0) for each, s, i in zip(side, seeds, items, strict=True)]).mean())

    def figure(seeds: list[Any], items: list[Any]) -> float:
        mine = mean(seeds, items, draws)
        return mine if others is None else mine / max(1e-9, mean(seeds, items, others))

    everything = [np.arange(each.shape[0]) for each in draws], [np.arange(each.shape[1]) for each in draws]
    values = []
    for _ in range(ROUNDS):
        seeds = [rng.integers(0, each.shape[0], each.shape[0]) for each in draws]
        values.append(figure(seeds, [rng.integers(0, each.shape[1], each.shape[1]) for each in draws]))
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(figure(*everything), float(low), float(high), sum(each.shape[1] for each in draws))


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
    ceiling = float(np.mean([fold["ceiling"] for fold in found]))
    return {
        "rows": rows,
        "ratios": ratios,
        "ceiling": ceiling,
        "chosen": [fold["chosen"] for fold in found],
        "hard": [fold["scored"] for fold in found],
    }
