"""How far an ONNX graph's outputs are from the network that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillhouse.passes.export.samples import Feed

__all__ = ["MAX_ERROR", "MIN_COSINE", "Parity", "compare", "measure_parity"]

MAX_ERROR = 1e-3
"""Largest difference allowed, relative to the largest magnitude of the expected outputs where that is above 1."""
MIN_COSINE = 0.9999
"""Lowest cosine between a row and its counterpart that is allowed."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Over all rows: the largest absolute difference, the lowest and the mean cosine, how many rows and shapes there were.

    `fits`: all outputs had the expected shapes.
    """

    max_abs_error: float
    min_cosine: float
    mean_cosine: float
    scale: float
    rows: int
    shapes: int
    fits: bool = True

    @property
    def holds(self) -> bool:
        """Say whether the graph may stand for the network."""
        return self.max_abs_error <= MAX_ERROR * max(self.scale, 1.0) and self.min_cosine >= MIN_COSINE


def compare(expected: NDArray[np.float32], found: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
    """Return (largest absolute difference, cosine of each row) of two float arrays [rows, n].

    Another shape, or a number that is not finite, counts as an infinite difference and cosines of -1.
    """
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf"), np.full(max(len(expected), 1), -1.0)
    wanted, given = expected.astype(np.float64), found.astype(np.float64)
    norms = np.linalg.norm(wanted, axis=-1) * np.linalg.norm(given, axis=-1)
    cosines = (wanted * given).sum(-1) / np.maximum(norms, 1e-12)
    cosines[~(wanted.any(-1) | given.any(-1))] = 1.0  # two rows of zeros are the same, whatever their direction
    return float(np.abs(wanted - given).max(initial=0.0)), cosines


def measure_parity(session: Any, expected: Callable[[Feed], NDArray[np.float32]], feeds: Iterable[Feed]) -> Parity:
    """Run every feed through `session` (ONNX Runtime) and `expected` (the network) and compare."""
    worst, scale, shapes, fits = 0.0, 0.0, 0, True
    cosines: list[NDArray[np.float64]] = []
    for feed in feeds:
        want = expected(feed)
        got = session.run(None, feed)[0]
        fits = fits and got.shape == want.shape
        error, rows = compare(want, got)
        worst = max(worst, error)
        cosines.append(rows)
        scale = max(scale, float(np.abs(want).max(initial=0.0)))
        shapes += 1
    every = np.concatenate(cosines)
    return Parity(worst, float(every.min()), float(every.mean()), scale, len(every), shapes, fits)
