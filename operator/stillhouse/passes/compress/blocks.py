"""Weights as whole numbers of 4 or 8 bits, a scale and a zero point for each block of them.

    weight = scale · (value - zero)        value, zero in 0 … 2^bits - 1

A block is so many neighbours in a row: of one output's weights, or of one row of a table. A row that ends inside a block is
filled with zeros, which are exact and cost what they take.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blocks", "fitted", "rounded"]

Floats = NDArray[np.float32]
Values = NDArray[np.uint8]

_SHRINK = tuple(1.0 - step / 20 for step in range(8))
"""Ranges that are tried, as shares of a block's own: a few clipped weights can cost less than coarser steps for all."""
_AT_ONCE = 1 << 20
"""Weights that are looked at together: bounds the memory of the search, and stays in the cache."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Quantized rows. `values` uint8 [rows, blocks, size], `scales` float32 and `zeros` uint8 [rows, blocks].

    `bits` is 4 or 8, `width` how many of a row's `blocks · size` values are weights.
    """

    values: Values
    scales: Floats
    zeros: Values
    bits: int
    width: int

    def floats(self) -> Floats:
        """Return the weights that the values stand for, float32 [rows, width]."""
        steps = self.values.astype(np.float32) - self.zeros[..., None].astype(np.float32)
        weights: Floats = (steps * self.scales[..., None]).reshape(len(self.values), -1)[:, : self.width]
        return weights

    def packed(self) -> Values:
        """Return the values as bytes [rows, blocks, size · bits / 8], the earlier of two in the low half."""
        return _packed(self.values, self.bits)

    def packed_zeros(self) -> Values:
        """Return the zero points as bytes [rows, ⌈blocks · bits / 8⌉]."""
        return _packed(self.zeros, self.bits)


def fitted(rows: Floats, size: int, bits: int) -> tuple[Floats, Values]:
    """Return the (scales, zero points) [rows, blocks] with the least squared error for weights [rows, width].

    Every block's range holds 0, so that what is nothing stays nothing. For 8 bits the whole range is best.
    """
    blocks = _in_blocks(rows, size)
    scales = np.empty(blocks.shape[:2], np.float32)
    zeros = np.empty(blocks.shape[:2], np.uint8)
    step = max(1, _AT_ONCE // max(1, blocks.shape[1] * size))
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        scales[part], zeros[part] = _searched(blocks[part], bits)
    return scales, zeros


def rounded(rows: Floats, size: int, bits: int) -> Blocks:
    """Return weights [rows, width] rounded to the nearest value of their block."""
    scales, zeros = fitted(rows, size, bits)
    values = _nearest(_in_blocks(rows, size), scales, zeros, bits)
    return Blocks(values, scales, zeros, bits, rows.shape[1])


def _searched(blocks: Floats, bits: int) -> tuple[Floats, Values]:
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    best = np.full(low.shape, np.inf, np.float32)
    scales, zeros = np.ones(low.shape, np.float32), np.zeros(low.shape, np.uint8)
    for share in _SHRINK if bits < 8 else (1.0,):
        scale, zero = _grid(low * np.float32(share), high * np.float32(share), bits)
        steps = _nearest(blocks, scale, zero, bits).astype(np.float32) - zero[..., None]
        error = np.square(steps * scale[..., None] - blocks).sum(-1)
        better = error < best
        best = np.where(better, error, best)
        scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros)
    return scales, zeros


def _grid(low: Floats, high: Floats, bits: int) -> tuple[Floats, Values]:
    most = 2**bits - 1
    scale = ((high - low) / most).astype(np.float32)
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1))  # nothing but zeros
    return scale, np.clip(np.round(-low / scale), 0, most).astype(np.uint8)


def _nearest(blocks: Floats, scales: Floats, zeros: Values, bits: int) -> Values:
    steps = np.round(blocks / scales[..., None]) + zeros[..., None]
    return np.clip(steps, 0, 2**bits - 1).astype(np.uint8)


def _in_blocks(rows: Floats, size: int) -> Floats:
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % size)))
    return filled.reshape(len(rows), -1, size)


def _packed(values: Values, bits: int) -> Values:
    if bits == 8:
        return values
    if values.shape[-1] % 2:
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 1)])
    return (values[..., 0::2] | (values[..., 1::2] << 4)).astype(np.uint8)
