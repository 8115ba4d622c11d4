"""Which rows make which step, and how fast each one learns: functions of seed and step, so that nothing need be saved."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["epoch_batches", "grouped_batches", "learning_rate", "steps_per_epoch"]

# Batches that share a pool are cut from rows sorted by length; 32 of them keep padding at a few per cent and leave the
# order random enough.
_POOL = 32


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return the number of batches of an epoch, the last one may be smaller."""
    return math.ceil(rows / batch_size)


def epoch_batches(
    lengths: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int, weights: npt.NDArray[np.float64] | None = None
) -> list[npt.NDArray[np.int64]]:
    """Return an epoch's batches of row numbers: every row once, rows of similar length together, in random order.

    Args:
        lengths: tokens per row, int64 [rows].
        batch_size: rows per step.
        seed: the run's seed; with `epoch` it determines the result.
        epoch: from 0.
        weights: float64 [rows], 0 or more and one of them above: as many rows as there are, drawn by weight (see `_drawn`).
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = generator.permutation(len(lengths) if weights is None else _drawn(weights, generator))
    batches: list[npt.NDArray[np.int64]] = []
    for first in range(0, len(order), _POOL * batch_size):
        pool = order[first : first + _POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches.extend(pool[at : at + batch_size] for at in range(0, len(pool), batch_size))
    return [batches[index] for index in generator.permutation(len(batches))]


def _drawn(weights: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return as many rows as there are weights, each as often as its share of them says: rounded down or up, by chance.

    Systematic resampling (Kitagawa 1996, section 2.3): of all ways to draw so that the mean is right it has the least noise, and
    equal weights give every row once.
    """
    order = generator.permutation(len(weights))
    ends = np.cumsum(weights[order] * (len(weights) / weights.sum()))
    points = generator.random() + np.arange(len(weights))
    last = np.flatnonzero(weights[order])[-1]  # where rounding leaves the end of all short of the last point
    rows: npt.NDArray[np.int64] = order[np.minimum(np.searchsorted(ends, points, side="right"), last)]
    return rows


def grouped_batches(groups: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Return an epoch's batches: every row once, in random order but rows of one group side by side.

    The cut between two batches may part a group; everybody else's partners are in the same batch.

    Args:
        groups: int64 [rows], equal for rows that belong together, -1 for a row that stands alone.
        batch_size: rows per step.
        seed: the run's seed; with `epoch` it determines the result.
        epoch: from 0.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    alone = groups < 0
    units = np.where(alone, np.arange(len(groups)) + groups.max(initial=-1) + 1, groups)
    _, units = np.unique(units, return_inverse=True)
    place = generator.permutation(units.max(initial=-1) + 1)
    order = np.argsort(place[units], kind="stable")
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the peak rate in step `step` (from 0) of `steps`.

    Linear from 1/n to 1 over the first `warmup` share of the steps (n of them), then half a cosine towards 0
    (Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5 without restarts).
    """
    climbing = math.ceil(warmup * steps)
    if step < climbing:
        return (step + 1) / climbing
    rest = max(1, steps - climbing)
    return 0.5 * (1.0 + math.cos(math.pi * (step - climbing) / rest))
