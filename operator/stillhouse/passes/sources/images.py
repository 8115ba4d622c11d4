"""A column of images: lists of numbers, or PNG or JPEG bytes; all of one shape."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillhouse.errors import DataError

__all__ = ["ImageColumn"]

_MAX_PIXELS = 1 << 26
"""A small file can unpack to gigabytes; 64 million pixels are more than any model here takes."""


class ImageColumn:
    """Checks images as they go by and flattens them to float32, channels × height × width.

    Numbers are kept as they are (nested as [height][width] or [channels][height][width], or one flat list in that
    order); PNG and JPEG become 0…1. `shape` is the shape of all of them, () before the first.
    """

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()

    def take(self, values: Sequence[Any], first_row: int, column: str) -> list[NDArray[np.float32]]:
        """Return the images of one batch, flat.

        Raises:
            DataError: a value is no image, holds NaN or infinity, or has another shape than those before it.
        """
        made: list[NDArray[np.float32]] = []
        for row, value in enumerate(values, first_row):
            image = _decode(value, row, column)
            if not np.isfinite(image).all():
                raise _bad(row, column, "NaN or infinity", "finite numbers")
            if not self.shape:
                self.shape = image.shape
            if image.shape != self.shape:
                raise _bad(row, column, f"shape {list(image.shape)}", f"{list(self.shape)}, as the rows before")
            made.append(image.reshape(-1))
        return made


def _decode(value: Any, row: int, column: str) -> NDArray[np.float32]:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]  # how the datasets library stores an image in Parquet
    if isinstance(value, bytes):
        return _picture(value, row, column)
    if hasattr(value, "convert") and hasattr(value, "size"):
        return _pixels(value, row, column)
    if not isinstance(value, list) or not value:
        raise _bad(row, column, "nothing" if value is None else type(value).__name__, "numbers, or PNG or JPEG bytes")
    try:
        array = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise _bad(row, column, str(error)[:120], "lists of equal lengths that hold numbers only") from error
    if array.ndim > 3:
        raise _bad(row, column, f"{array.ndim} dimensions", "at most three: channels, height, width")
    return array[None] if array.ndim == 2 else array


def _picture(data: bytes, row: int, column: str) -> NDArray[np.float32]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            return _pixels(picture, row, column)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        strange = type(error).__name__ == "UnidentifiedImageError"
        raise _bad(row, column, "neither PNG nor JPEG" if strange else str(error)[:120], "a whole PNG or JPEG") from error


def _pixels(picture: Any, row: int, column: str) -> NDArray[np.float32]:
    width, height = picture.size
    if width * height > _MAX_PIXELS:
        raise _bad(row, column, f"{width} × {height} pixels", f"at most {_MAX_PIXELS} pixels")
    grey = picture.mode in ("1", "L", "I;16", "I", "F")
    array = np.asarray(picture.convert("L" if grey else "RGB"), dtype=np.float32) / 255
    made: NDArray[np.float32] = array[None] if grey else array.transpose(2, 0, 1)
    return made


def _bad(row: int, column: str, found: str, allowed: str) -> DataError:
    return DataError(
        f"row {row} has no usable image",
        field="data.columns.image",
        found=f"{found} in row {row}, column {column}",
        allowed=allowed,
        fix="remove or mend that row",
    )
