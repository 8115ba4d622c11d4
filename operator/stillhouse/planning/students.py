"""What planning knows of students of other kinds than a transformer: their configuration and what they cost. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from stillhouse.api.student import SMALL, Student

__all__ = [
    "CHANNELS",
    "EMBEDDING_SIZE",
    "FEW_CHANNELS",
    "HIDDEN_SIZE",
    "KERNEL_SIZES",
    "convolved_macs",
    "form_of",
    "image_parameters",
    "is_small",
    "small_config",
    "small_macs",
    "small_parameters",
]

EMBEDDING_SIZE: Final = 128
"""Numbers of a token's vector where the file names none, and the teacher's are not narrower."""
HIDDEN_SIZE: Final = 256
KERNEL_SIZES: Final = (3, 4, 5)
"""Kim's (2014)."""
CHANNELS: Final = (16, 32, 64)

FEW_CHANNELS: Final = 8
"""Channels below which a convolution is not split: there is nothing to save in the first layer of a picture."""

_RECURRENT: Final = 4
"""An LSTM's matrices: three gates and what may be remembered."""
_SLOW: Final = 2.0
"""How much longer an LSTM's multiply-accumulate takes in training than others: its steps wait for each other."""


def is_small(student: Mapping[str, Any]) -> bool:
    """Return whether a student's configuration is of one of these kinds."""
    return student.get("architecture") in SMALL


def small_config(student: Student) -> dict[str, Any]:
    """Return what a student's configuration has only where the file says it."""
    convolution = student.convolution
    sizes = convolution.kernel_sizes if convolution else None
    if convolution is not None and student.architecture == "residual":
        sizes = sizes or KERNEL_SIZES  # they say that it has convolutions
    found: dict[str, Any] = {
        "embeddingSize": student.embedding_size,
        "pooling": student.pooling,
        "bigrams": student.bigrams,
        "kernelSizes": list(sizes) if sizes else None,
        "channels": list(convolution.channels) if convolution and convolution.channels else None,
        "separable": convolution.separable if convolution else None,
        "dilated": convolution.dilated if convolution else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def form_of(source: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the height, width and channels of a row that an imported model takes, None of a text: a window is one pixel high."""
    features = source.get("features")
    if not features:
        return source.get("image")
    if "columns" in features:
        return {"height": 1, "width": len(features["columns"]), "channels": 1}
    return {"height": 1, "width": features["length"], "channels": features["channels"]}


def small_macs(student: Mapping[str, Any], image: Mapping[str, Any] | None, *, training: bool = False) -> int:
    """Return multiply-accumulates of a token, with `image` (its height, width, channels) of a whole image.

    `training`: weighed by how much longer they take there.
    """
    layers = int(student.get("hiddenLayers") or 1)
    hidden = int(student.get("hiddenSize") or HIDDEN_SIZE)
    if image is not None:
        return _image_macs(student, image, layers, hidden)
    width = int(student.get("embeddingSize") or EMBEDDING_SIZE)
    match student["architecture"]:
        case "cnn":
            sizes = student.get("kernelSizes") or KERNEL_SIZES
            return convolved_macs({**student, "kernelSizes": sizes}, hidden, layers, width)
        case "bilstm":
            macs = 0
            for _ in range(layers):
                macs += _RECURRENT * hidden * (width + hidden // 2)
                width = hidden
            return int(macs * (_SLOW if training else 1.0))
        case _:
            return 2 * width  # its layers see one vector a text


def convolved_macs(student: Mapping[str, Any], hidden: int, layers: int, width: int | None = None) -> int:
    """Return multiply-accumulates of a token's convolutions; `width`: of what the first layer looks at, `hidden` left out."""
    sizes = student["kernelSizes"]
    # What a separable one multiplies over positions is a few percent, and counted in no graph of ours.
    seen = 1 if student.get("separable") else sum(sizes) / len(sizes)
    return int((width or hidden) * hidden * seen) + (layers - 1) * int(hidden * hidden * seen)


def _image_macs(student: Mapping[str, Any], image: Mapping[str, Any], layers: int, hidden: int) -> int:
    before, height, width = (int(image.get(name) or 1) for name in ("channels", "height", "width"))
    if student["architecture"] == "mlp":
        return before * height * width * hidden + (layers - 1) * hidden * hidden
    return sum(pixels * weights for pixels, weights in _convolutions(student, before, (height, width), layers))


def _convolutions(student: Mapping[str, Any], before: int, sides: tuple[int, int], layers: int) -> Iterator[tuple[int, int]]:
    """Yield (pixels, weights) of each convolution over an image."""
    height, width = sides
    kernel = (1 if height == 1 else 3) * (1 if width == 1 else 3)
    for number, after in enumerate(student.get("channels") or CHANNELS):
        for layer in range(layers):
            if number and not layer:
                height, width = -(-height // 2), -(-width // 2)
            split = student.get("separable") and before >= FEW_CHANNELS
            yield height * width, before * (kernel + after if split else kernel * after)
            before = after


def image_parameters(student: Mapping[str, Any], image: Mapping[str, Any]) -> int:
    """Return about how many parameters a student of images has, or of what has an image's form (see `form_of`)."""
    if student["architecture"] == "mlp":
        return small_macs(student, image)  # each of its weights is multiplied once
    channels, height, width = (int(image.get(name) or 1) for name in ("channels", "height", "width"))
    layers = int(student.get("hiddenLayers") or 1)
    return sum(weights for _, weights in _convolutions(student, channels, (height, width), layers))


def small_parameters(student: Mapping[str, Any], vocabulary: int) -> int:
    """Return about how many parameters a student of texts has; its vocabulary's size is given."""
    width = int(student.get("embeddingSize") or EMBEDDING_SIZE)
    hidden, layers = int(student.get("hiddenSize") or HIDDEN_SIZE), int(student.get("hiddenLayers") or 1)
    inner = small_macs(student, None) if student["architecture"] != "mlp" else width * hidden + (layers - 1) * hidden * hidden
    return (vocabulary + int(student.get("bigrams") or 0)) * width + inner
