"""`image`: PNG and JPEG files to tensors. A small file that unpacks to a giant is refused before it is unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.image import decode_image, normalise
from stillhouse.inference.preprocess.base import MOST_ELEMENTS, Around, Step, same_type
from stillhouse.inference.preprocess.config import limit
from stillhouse.inference.signature import ImageSpec

__all__ = ["DecodeImage", "ImageConfig"]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """`input` is BYTES [n, 1], a file an element; `output` FP32 [n, channels, height, width], bilinear, in [0, 1].

    With `mean` and `std` (both, one number a channel) it is normalised too; a model of our own backend normalises by itself.
    `max_pixels` of a picture as it is sent, `max_bytes` of its file.
    """

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input: str = "FILE"
    output: str = "IMAGE"
    max_pixels: int = 16_000_000
    max_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        limit(1 <= self.height <= 4096, "height", self.height, "1 to 4096")
        limit(1 <= self.width <= 4096, "width", self.width, "1 to 4096")
        limit(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        limit(1 <= self.max_pixels <= 64_000_000, "maxPixels", self.max_pixels, "1 to 64000000")
        limit(1 <= self.max_bytes <= 64 << 20, "maxBytes", self.max_bytes, "1 to 67108864")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, self.channels) or len(values) != len(self.mean):
                allowed = f"{self.channels} numbers, in mean and std alike, or none"
                raise SpecError("one number a channel", field=name, found=str(list(values)), allowed=allowed)
        limit(all(each > 0 for each in self.std), "std", list(self.std), "more than 0")


class DecodeImage(Step[ImageConfig]):
    """Decode, resize, normalise."""

    kind: ClassVar[str] = "image"
    version: ClassVar[int] = 1
    config_type = ImageConfig

    def __init__(self, config: ImageConfig, around: Around) -> None:
        super().__init__(config, around)
        self._spec = ImageSpec(config.height, config.width, config.channels, config.mean, config.std)
        self._most = max(1, MOST_ELEMENTS // (config.channels * config.height * config.width))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Files."""
        return (TensorSpec(self.config.input, "BYTES", (-1, 1)),)

    def outputs(self, given: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        """Pictures."""
        spec, config = given[self.config.input], self.config
        same_type(spec, ("BYTES",), 1, 2)
        return (TensorSpec(config.output, "FP32", (spec.shape[0], config.channels, config.height, config.width)),)

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Decode a request's files."""
        config = self.config
        files = tensors[config.input]
        if (files.ndim == 2 and files.shape[1] != 1) or len(files) > self._most:
            allowed = f"[n, 1], n at most {self._most}"
            raise DataError("one file a row", field=config.input, found=str(list(files.shape)), allowed=allowed)
        pictures = np.empty((len(files), config.channels, config.height, config.width), dtype=np.float32)
        for row, data in enumerate(files.ravel().tolist()):
            field = f"{config.input}[{row}]"
            if len(data) > config.max_bytes:
                found, allowed = f"{len(data)} bytes", f"{config.max_bytes} bytes"
                raise DataError("the file is too large", field=field, found=found, allowed=allowed)
            pictures[row] = decode_image(data, self._spec, field=field, max_pixels=config.max_pixels)
        return {config.output: normalise(pictures, self._spec) if config.mean else pictures}
