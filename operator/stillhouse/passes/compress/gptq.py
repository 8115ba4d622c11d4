"""GPTQ (Frantar et al. 2022, arXiv:2210.17323): weights are rounded to few bits for the rows that they are given.

One input after the other is rounded, and what that adds to the outputs is taken back by the inputs that are not rounded yet.
ONNX Runtime's own takes its result for weights anew and finds other scales for it; here the values are kept as they were found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stillhouse.passes.compress.blocks import Blocks, fitted

__all__ = ["gptq"]

_DAMPING = 0.01
"""Added to the diagonal, as a share of its mean: few rows say little of some directions."""
_LAZY = 128
"""Inputs whose corrections are gathered before they are passed on to all the others."""


def gptq(weights: NDArray[np.float32], products: NDArray[np.float64], size: int, bits: int) -> Blocks:
    """Return weights [outputs, inputs] in blocks of `size`, rounded for rows x with Σ x·xᵀ = `products` [inputs, inputs].

    Blocks have the grid that fits their weights best; inputs are taken in the order of their weight in `products`, so that
    those that matter are rounded while there is most left to correct them. Inputs that never were other than 0 are rounded to
    the nearest.
    """
    scales, zeros = fitted(weights, size, bits)
    order = np.argsort(-np.diag(products), kind="stable")
    block = order // size
    left = weights.astype(np.float64)[:, order]
    upper = _upper(products[np.ix_(order, order)])
    values = np.zeros(left.shape, np.uint8)
    most = 2**bits - 1
    for start in range(0, left.shape[1], _LAZY):
        end = min(start + _LAZY, left.shape[1])
        errors = np.zeros((len(left), end - start))
        for at in range(start, end):
            scale, zero = scales[:, block[at]], zeros[:, block[at]].astype(np.float64)
            value = np.clip(np.round(left[:, at] / scale) + zero, 0, most)
            values[:, at] = value
            error = (left[:, at] - scale * (value - zero)) / upper[at, at]
            left[:, at + 1 : end] -= np.outer(error, upper[at, at + 1 : end])
            errors[:, at - start] = error
        left[:, end:] -= errors @ upper[start:end, end:]
    found = np.empty_like(values)
    found[:, order] = values
    # What fills the last block stands for 0.
    padding = -weights.shape[1] % size
    if padding:
        found = np.concatenate([found, np.repeat(zeros[:, -1:], padding, axis=1)], axis=1)
    return Blocks(found.reshape(len(found), -1, size), scales, zeros, bits, weights.shape[1])


def _upper(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper factor of the inverse: what rounding one input asks of those behind it."""
    damped = products.copy()
    diagonal = np.arange(len(damped))
    still = np.diag(damped) <= 0
    damped[diagonal[still], diagonal[still]] = 1.0
    damped[diagonal, diagonal] += _DAMPING * float(np.mean(np.diag(damped)))
    factor: NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(damped)).T
    return factor
