"""How several teachers become one: their probabilities mixed, or their similarities averaged. Numpy alone.

Classes. With p_k(c) = softmax(z_k)_c of teacher k for a row, H its entropy, K classes and a_k the weights given (sum 1):

    p(c) = Σ_k w_k · p_k(c),  z_c = log p(c)       (the ensemble's own prediction, at temperature 1; losses soften it after)
    fixed:       w_k = a_k
    confidence:  w_k ∝ a_k · (1 − H(p_k) / log K)
    select:      w_k = 1 for the largest a_k · (1 − H(p_k) / log K), else 0
    learned:     w = argmax Σ_rows log Σ_k w_k · p_k(label), over rows that have one; the same for all rows

Averaging teachers' softened outputs: Hinton, Vinyals & Dean 2015, arXiv:1503.02531; You et al. 2017, "Learning from Multiple
Teacher Networks". Weights by entropy: after Kwon et al. 2020, "Adaptive Knowledge Distillation Based on Entropy" (the formula is
ours). `learned` is the linear opinion pool; its likelihood is concave in w, and expectation maximisation climbs it (Dempster,
Laird & Rubin 1977): no learning rate, one maximum.

Embeddings e_k of unit length, each of a width of its own: e = (√a_1·e_1, √a_2·e_2, …). Then ⟨e(x), e(y)⟩ = Σ_k a_k·cos_k(x, y):
what looks only at similarities or distances between rows sees the teachers' weighted mean. Its axes mean nothing to a student.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["beside", "certainty", "fitted", "log_probabilities", "mixed", "row_weights"]

Array = npt.NDArray[np.float64]
_TINY: Final = 1e-12
_ROUNDS: Final = 500


def log_probabilities(logits: npt.NDArray[np.float32]) -> Array:
    """Return log softmax, float64 [rows, classes]."""
    values = logits.astype(np.float64)
    values = values - values.max(axis=1, keepdims=True)
    result: Array = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return result


def certainty(logs: Array) -> Array:
    """Return 1 − H / log K for each row of log probabilities: 1 for one class alone, nearly 0 for all alike; float64 [rows]."""
    entropy = -(np.exp(logs) * logs).sum(axis=1)
    result: Array = np.clip(1.0 - entropy / max(np.log(logs.shape[1]), _TINY), _TINY, 1.0)
    return result


def row_weights(parts: Sequence[Array], given: Array, weighting: str) -> Array:
    """Return how much each teacher counts for each row, float64 [rows, teachers], each row's sum 1.

    Args:
        parts: log probabilities of each teacher, [rows, classes] each.
        given: weights, [teachers].
        weighting: `fixed` and `learned` take `given` as it is; `confidence` and `select` look at each row.
    """
    rows = len(parts[0])
    weights = np.tile(given / given.sum(), (rows, 1))
    if weighting in {"confidence", "select"}:
        weights = weights * np.stack([certainty(part) for part in parts], axis=1)
    if weighting == "select":
        weights = (np.arange(len(parts)) == weights.argmax(axis=1)[:, None]).astype(np.float64)
    result: Array = weights / weights.sum(axis=1, keepdims=True)
    return result


def mixed(parts: Sequence[Array], weights: Array) -> npt.NDArray[np.float32]:
    """Return the logits of the mixture, float32 [rows, classes]: log Σ_k w_k p_k."""
    with np.errstate(divide="ignore"):  # a teacher that does not count for a row
        logs = np.stack([part + np.log(weights[:, [number]]) for number, part in enumerate(parts)])
    highest = logs.max(axis=0)
    result: npt.NDArray[np.float32] = (highest + np.log(np.exp(logs - highest).sum(axis=0))).astype(np.float32)
    return result


def fitted(parts: Sequence[Array], labels: npt.NDArray[np.int64]) -> Array:
    """Return the weights of the highest likelihood, float64 [teachers], sum 1; `labels` int64 [rows], each a class."""
    of_label = np.stack([np.exp(part[np.arange(len(labels)), labels]) for part in parts], axis=1) + _TINY
    weights = np.full(len(parts), 1.0 / len(parts))
    for _ in range(_ROUNDS):
        shares = of_label * weights
        after = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(after - weights).max() < 1e-9:
            break
        weights = after
    return weights


def beside(parts: Sequence[npt.NDArray[Any]], given: Array) -> npt.NDArray[np.float16]:
    """Return embeddings of unit length side by side, float16 [rows, all widths], so that dot products are weighted means."""
    shares = np.sqrt(given / given.sum())
    result: npt.NDArray[np.float16] = np.concatenate(
        [share * part.astype(np.float64) for share, part in zip(shares, parts, strict=True)], axis=1
    ).astype(np.float16)
    return result
