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
    """Over all rows: the largest absolute difference, the lowest cosine, and how many rows and shapes were compared."""

    max_abs_error: float
    min_cosine: float
    scale: float
    rows: int
    shapes: int

    @property
    def holds(self) -> bool:
        """Say whether the graph may stand for the network."""
        return self.max_abs_error <= MAX_ERROR * max(self.scale, 1.0) and self.min_cosine >= MIN_COSINE


def compare(expected: NDArray[np.float32], found: NDArray[np.float32]) -> tuple[float, float]:
    """Return (largest absolute difference, lowest cosine of rows) of two float arrays [rows, n]; NaN counts as infinite."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf"), -1.0
    norms = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    cosines = (expected * found).sum(-1) / np.maximum(norms, 1e-12)
    return float(np.abs(expected - found).max(initial=0.0)), float(cosines.min(initial=1.0))


def measure_parity(session: Any, expected: Callable[[Feed], NDArray[np.float32]], feeds: Iterable[Feed]) -> Parity:
    """Run every feed through `session` (ONNX Runtime) and `expected` (the network) and compare."""
    worst, lowest, scale, rows, shapes = 0.0, 1.0, 0.0, 0, 0
    for feed in feeds:
        want = expected(feed)
        error, cosine = compare(want, session.run(None, feed)[0])
        worst, lowest = max(worst, error), min(lowest, cosine)
        scale = max(scale, float(np.abs(want).max(initial=0.0)))
        rows, shapes = rows + len(want), shapes + 1
    return Parity(worst, lowest, scale, rows, shapes)
