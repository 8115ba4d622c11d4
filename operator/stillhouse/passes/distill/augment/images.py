"""Changes of an image that leave what it shows: mirrored, moved, turned, or with noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["IMAGE_CHANGES", "ImageChange"]

Pixels = npt.NDArray[np.float32]
Generator = np.random.Generator
ImageChange = Callable[[Pixels, float, Generator], Pixels]
"""Called with pixels float32 [channels, height, width], the amount, and what draws; returns pixels of the same shape."""


def flip(image: Pixels, amount: float, generator: Generator) -> Pixels:
    """Mirror left and right."""
    return np.ascontiguousarray(image[:, :, ::-1])


def crop(image: Pixels, amount: float, generator: Generator) -> Pixels:
    """Cut out a window of the image's own size after `amount` of each side (one pixel at least) was added to every edge.

    What lies beyond an edge is the edge's own pixels.
    """
    _, height, width = image.shape
    rows, columns = (max(1, round(amount * side)) for side in (height, width))
    padded = np.pad(image, ((0, 0), (rows, rows), (columns, columns)), mode="edge")
    top, left = (int(generator.integers(2 * each + 1)) for each in (rows, columns))
    return np.ascontiguousarray(padded[:, top : top + height, left : left + width])


def rotate(image: Pixels, amount: float, generator: Generator) -> Pixels:
    """Turn about the centre by an angle that is drawn evenly up to `amount` of a whole turn either way (bilinear)."""
    _, height, width = image.shape
    angle = float(generator.uniform(-amount, amount)) * 2 * np.pi
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    y, x = np.meshgrid(np.arange(height) - middle[0], np.arange(width) - middle[1], indexing="ij")
    rows = np.clip(np.cos(angle) * y - np.sin(angle) * x + middle[0], 0, height - 1)
    columns = np.clip(np.sin(angle) * y + np.cos(angle) * x + middle[1], 0, width - 1)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, over = (rows - top)[None], (columns - left)[None]
    upper = image[:, top, left] * (1 - over) + image[:, top, right] * over
    lower = image[:, bottom, left] * (1 - over) + image[:, bottom, right] * over
    turned: Pixels = (upper * (1 - down) + lower * down).astype(np.float32)
    return turned


def noise(image: Pixels, amount: float, generator: Generator) -> Pixels:
    """Add normal noise whose standard deviation is `amount` of the image's own range, within which it stays."""
    low, high = float(image.min()), float(image.max())
    noisy: Pixels = np.clip(image + generator.normal(0, amount * (high - low), image.shape), low, high).astype(np.float32)
    return noisy


IMAGE_CHANGES: dict[str, ImageChange] = {"flip": flip, "crop": crop, "rotate": rotate, "noise": noise}
