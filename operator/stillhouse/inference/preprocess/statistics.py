"""`statistics`: numbers that describe a window, a few for each channel.

Computed in float64 and rounded to float32 at the end, so that machines which sum in another order agree within 1e-6 of the
largest value of the window (docs/preprocessing.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.preprocess.base import NUMBERS, Around, Step, finite, same_type
from stillhouse.inference.preprocess.config import limit

__all__ = ["Statistics", "StatisticsConfig"]

Name = Literal["mean", "std", "min", "max", "range", "rms", "median"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StatisticsConfig:
    """`input` [n, …, length, channels] → `output` FP32 [n, …, features · channels]; all channels of a feature stand together.

    Features in this order: `names` (std is that of the population), `quantiles` (0 to 1, linear between samples), `bands` [low,
    high) in hertz of a signal of `rate` samples a second: the mean square of the part of the signal in it. Bands that cover 0 to
    rate/2 sum up to the square of the rms; one that ends at rate/2 includes it.
    """

    names: tuple[Name, ...] = ("mean", "std", "min", "max", "rms")
    quantiles: tuple[float, ...] = ()
    bands: tuple[tuple[float, float], ...] = ()
    rate: float = 0.0
    input: str = "WINDOWS"
    output: str = "FEATURES"

    def __post_init__(self) -> None:
        limit(len(set(self.names)) == len(self.names), "names", ", ".join(self.names), "each one once")
        limit(1 <= self.features <= 256, "names", self.features, "1 to 256 names, quantiles and bands together")
        limit(all(0 <= each <= 1 for each in self.quantiles), "quantiles", list(self.quantiles), "0 to 1")
        if self.bands and not self.rate > 0:
            raise SpecError("bands need the rate of the signal", field="rate", found=str(self.rate), allowed="more than 0")
        good = all(0 <= low < high <= self.rate / 2 for low, high in self.bands)
        limit(good, "bands", self.bands, f"low below high, 0 to {self.rate / 2:g} Hz")

    @property
    def features(self) -> int:
        """Numbers for each channel."""
        return len(self.names) + len(self.quantiles) + len(self.bands)


class Statistics(Step[StatisticsConfig]):
    """Reduces the last but one axis."""

    kind: ClassVar[str] = "statistics"
    version: ClassVar[int] = 1
    config_type = StatisticsConfig

    def __init__(self, config: StatisticsConfig, around: Around) -> None:
        super().__init__(config, around)
        self._quantiles = np.array((*config.quantiles, *([0.5] if "median" in config.names else [])), dtype=np.float64)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """A window a row."""
        return (TensorSpec(self.config.input, "FP32", (-1, -1, -1)),)

    def outputs(self, given: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        """Features."""
        spec = given[self.config.input]
        same_type(spec, NUMBERS, 3, 8)
        *rows, length, channels = spec.shape
        if length == 0:
            raise SpecError("a window needs a sample", field=spec.name, found=str(spec), allowed="1 or more")
        width = -1 if channels == -1 else channels * self.config.features
        return (TensorSpec(self.config.output, "FP32", (*rows, width)),)

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Describe a request's windows."""
        config = self.config
        given = tensors[config.input]
        *rows, length, channels = given.shape
        if length == 0:
            raise DataError("a window needs a sample", field=config.input, found=str(list(given.shape)), allowed="1 or more")
        values = given.astype(np.float64)
        finite(config.input, values)
        features = self._features(values)
        stacked = np.stack(features, axis=-2).reshape(*rows, config.features * channels)
        with np.errstate(over="ignore"):
            answer = stacked.astype(np.float32)
        finite(config.output, answer)  # the square of what float32 can hold is more than it can hold
        return {config.output: answer}

    def _features(self, values: Floats) -> list[Floats]:
        config, found = self.config, dict[str, Floats]()
        quantiles = np.quantile(values, self._quantiles, axis=-2) if len(self._quantiles) else np.empty(0)
        for name in config.names:
            match name:
                case "mean":
                    found[name] = values.mean(axis=-2)
                case "std":
                    found[name] = values.std(axis=-2)
                case "min":
                    found[name] = values.min(axis=-2)
                case "max":
                    found[name] = values.max(axis=-2)
                case "range":
                    found[name] = values.max(axis=-2) - values.min(axis=-2)
                case "rms":
                    found[name] = np.sqrt(np.square(values).mean(axis=-2))
                case "median":
                    found[name] = quantiles[-1]
        bands = self._bands(values) if config.bands else []
        return [*found.values(), *quantiles[: len(config.quantiles)], *bands]

    def _bands(self, values: Floats) -> list[Floats]:
        length, half = values.shape[-2], self.config.rate / 2
        power = np.square(np.abs(np.fft.rfft(values, axis=-2))) / length**2
        power[..., 1 : (length + 1) // 2, :] *= 2  # the mirrored half; neither the constant part nor rate/2 has one
        frequencies = np.fft.rfftfreq(length, 1 / self.config.rate)
        found = []
        for low, high in self.config.bands:
            inside = (frequencies >= low) & ((frequencies < high) | (high == half))
            found.append(power[..., inside, :].sum(axis=-2))
        return found
