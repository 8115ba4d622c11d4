"""`window`: sliding windows of sensor data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.preprocess.base import MOST_ELEMENTS, NUMBERS, Step, same_type
from stillhouse.inference.preprocess.config import limit

__all__ = ["Window", "WindowConfig"]


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """`input` [n, time, channels] of any number type → `output` of that type, [n, windows, length, channels].

    A window begins every `hop` samples; what is left behind the last whole one is dropped. `merge`: every window is a row of its
    own, [n · windows, length, channels].
    """

    length: int
    hop: int
    merge: bool = False
    input: str = "SIGNAL"
    output: str = "WINDOWS"

    def __post_init__(self) -> None:
        limit(1 <= self.length <= 1 << 20, "length", self.length, "1 to 1048576 samples")
        limit(1 <= self.hop <= 1 << 20, "hop", self.hop, "1 to 1048576 samples")


class Window(Step[WindowConfig]):
    """Copies samples and computes nothing: every type keeps its values."""

    kind: ClassVar[str] = "window"
    version: ClassVar[int] = 1
    config_type = WindowConfig

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """A signal."""
        return (TensorSpec(self.config.input, "FP32", (-1, -1, -1)),)

    def outputs(self, given: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        """Windows."""
        spec, config = given[self.config.input], self.config
        same_type(spec, NUMBERS, 3, 3)
        rows, time, channels = spec.shape
        if time != -1 and time < config.length:
            raise SpecError(
                "the signal is shorter than a window", field=spec.name, found=str(spec), allowed=f"{config.length} samples"
            )
        windows = -1 if time == -1 else self._count(time)
        if config.merge:
            shape: tuple[int, ...] = (-1 if -1 in (rows, windows) else rows * windows, config.length, channels)
        else:
            shape = (rows, windows, config.length, channels)
        return (TensorSpec(config.output, spec.datatype, shape),)

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cut a request's signals."""
        config, signal = self.config, tensors[self.config.input]
        rows, time, channels = signal.shape
        count = self._count(time)
        if count < 1 or rows * count * config.length * channels > MOST_ELEMENTS:
            raise DataError(
                "the signal gives no window, or too many",
                field=config.input,
                found=str(list(signal.shape)),
                allowed=f"{config.length} samples or more, windows of {MOST_ELEMENTS} numbers in all at most",
            )
        views = np.lib.stride_tricks.sliding_window_view(signal, config.length, axis=1)[:, :: config.hop]
        windows = np.ascontiguousarray(views.transpose(0, 1, 3, 2))
        return {config.output: windows.reshape(rows * count, config.length, channels) if config.merge else windows}

    def _count(self, time: int) -> int:
        return max(0, (time - self.config.length) // self.config.hop + 1)
