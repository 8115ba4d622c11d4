"""Several stages before the last model: one path through all their thresholds, so that one search solves them together."""

from __future__ import annotations

import itertools
import math

import numpy as np

from stillhouse.passes.evaluate.curve import Path, Rows, tally

__all__ = ["pareto_path"]

STEPS = 50
MOST = 4096


def pareto_path(rows: Rows, steps: int = STEPS) -> Path:
    """Return the thresholds that no others beat in both agreement and cost, from all infinite to the cheapest.

    Every combination of `steps` quantiles of each stage's confidence, and of leaving a stage out, is tried; of many stages
    each has fewer, so that there are some 4,000 combinations at most (50 a stage for two stages, 15 for three). A greedy walk
    would be quicker and can miss a cheap stage, which costs something before it saves anything.

    Use rows that nothing else is decided on (the calibration split): the guarantee of `threshold.solve` rests on a path
    that its rows had no part in (Pareto testing, Laufer-Goldenshluger et al. 2023).
    """
    count = max(2, min(steps, int(MOST ** (1 / rows.stages) + 1e-9) - 1))
    grids: list[list[float]] = []
    for stage in range(rows.stages):
        values = rows.confidence[:, stage]
        known = values[~np.isnan(values)]
        # No interpolation: a threshold that lies between two confidences answers what neither was tested with.
        levels = np.quantile(known, np.linspace(1, 0, count), method="lower") if len(known) else known
        grids.append([math.inf, *np.unique(levels)[::-1].tolist()])
    tries = list(itertools.product(*grids))
    counts = tally(rows, tries)
    path, cost = [tries[0]], math.inf
    for place in np.lexsort((counts.escalated, counts.cost, counts.disagreeing)).tolist():
        if counts.cost[place] < cost:
            cost = float(counts.cost[place])
            if place:
                path.append(tries[place])
    return path
