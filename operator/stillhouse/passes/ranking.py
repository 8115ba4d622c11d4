"""Retrieval: the rank of the right document, for the gate, for validation while training, and for benchmarks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ranks", "reciprocal"]

_BLOCK = 512  # queries compared at once: of many documents, all similarities together would not fit into memory


def ranks(query: npt.NDArray[np.float32], document: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return for every query the rank (from 1) of its own document among all; ties and NaN count against it.

    So a model that maps everything to one point, or to no numbers, has found nothing.

    `query` and `document` are embeddings, float32 [rows, dimension], L2-normalised, in the same order; the result is
    int64 [rows].
    """
    found = np.empty(len(query), dtype=np.int64)
    for start in range(0, len(query), _BLOCK):
        block = query[start : start + _BLOCK] @ document.T
        rows = np.arange(len(block))
        own = block[rows, start + rows]
        found[start : start + len(block)] = (~(block < own[:, None])).sum(axis=1)
    return found


def reciprocal(found: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
    """Return 1/rank up to rank k, else 0, float64 [rows]; the mean is MRR@k."""
    return np.where(found <= k, 1.0 / found, 0.0)
