"""Images: files to tensors, tensors to what the model expects."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from stillhouse.errors import DataError, MissingPackages
from stillhouse.extras import install
from stillhouse.inference.signature import ImageSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["decode_image", "normalise", "scaled"]

# A picture of more pixels than this is refused before it is unpacked: a few KB of PNG can hold gigabytes.
MAX_PIXELS = 64_000_000


def normalise(images: npt.NDArray[np.float32], spec: ImageSpec) -> npt.NDArray[np.float32]:
    """Return `(x - mean) / std` per channel.

    Args:
        images: float32 [n, channels, height, width], values in [0, 1].
        spec: the model's shape and normalisation.

    Raises:
        DataError: another shape, or a value that is not finite.
    """
    import numpy as np

    expected = (spec.channels, spec.height, spec.width)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected:
        raise DataError(
            "the image has another shape",
            field="IMAGE",
            found=str(list(images.shape)),
            allowed=f"[n, {spec.channels}, {spec.height}, {spec.width}] (channels, height, width)",
        )
    if not np.isfinite(images).all():
        raise DataError("the image holds values that are not finite", field="IMAGE", allowed="numbers in [0, 1]")
    return scaled(images, spec)


def scaled(images: npt.NDArray[np.float32], spec: ImageSpec) -> npt.NDArray[np.float32]:
    """Return `(x - mean) / std` per channel of images of the model's shape, which are not looked at."""
    import numpy as np

    mean, std = (np.asarray(part, dtype=np.float32).reshape(1, spec.channels, 1, 1) for part in (spec.mean, spec.std))
    result: npt.NDArray[np.float32] = (images.astype(np.float32, copy=False) - mean) / std
    return result


def decode_image(data: bytes, spec: ImageSpec, *, field: str = "IMAGE", max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.float32]:
    """Decode a PNG or JPEG file, resized (bilinear) to the model's height and width.

    Returns:
        float32 [channels, height, width] in [0, 1], not normalised: what the wire contract's IMAGE expects. A picture of more
        than `max_pixels` is refused before it is unpacked; `field` names it in messages.

    Raises:
        DataError: not a PNG or JPEG, damaged, or too large.
        MissingPackages: Pillow is not installed.
    """
    import numpy as np

    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackages("decoding images needs Pillow", found=str(error), fix=install("serve")) from error
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > max_pixels:
                raise DataError(
                    "the image is too large",
                    field=field,
                    found=f"{image.width}x{image.height} pixels",
                    allowed=f"{max_pixels} pixels",
                )
            mode = "L" if spec.channels == 1 else "RGB"
            sized = image.convert(mode).resize((spec.width, spec.height), Image.Resampling.BILINEAR)
            pixels = np.asarray(sized, dtype=np.float32) / np.float32(255)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        found = "neither PNG nor JPEG" if type(error).__name__ == "UnidentifiedImageError" else str(error)
        raise DataError("the image cannot be decoded", field=field, found=found, allowed="a PNG or JPEG file") from error
    if pixels.ndim == 2:
        return pixels[np.newaxis, :, :]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
