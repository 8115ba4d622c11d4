"""`normalise`: numbers of any type to float32 of a known mean and spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.preprocess.base import NUMBERS, Around, Step, finite, same_type
from stillhouse.inference.preprocess.config import limit

__all__ = ["Normalise", "NormaliseConfig"]


@dataclass(frozen=True, slots=True)
class NormaliseConfig:
    """`output` = (`input` - mean) / std, FP32, of the same shape; then cut to ±`clip` (0: not cut).

    `mean` and `std` have one number, or one for each place of the last axis.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float = 0.0
    input: str = "FEATURES"
    output: str = "FEATURES"

    def __post_init__(self) -> None:
        limit(1 <= len(self.mean) <= 65536, "mean", f"{len(self.mean)} numbers", "1 to 65536")
        limit(len(self.std) == len(self.mean), "std", f"{len(self.std)} numbers", f"{len(self.mean)}, as mean")
        smallest = float(np.finfo(np.float32).tiny)
        limit(all(smallest <= each <= 1e38 for each in self.std), "std", list(self.std)[:8], "more than 0 as a float32")
        limit(all(abs(each) <= 1e38 for each in self.mean), "mean", list(self.mean)[:8], "a float32")
        limit(0 <= self.clip <= 1e38, "clip", self.clip, "0 or more")


class Normalise(Step[NormaliseConfig]):
    """Subtracts and divides in float32: two operations that IEEE 754 rounds the same way everywhere."""

    kind: ClassVar[str] = "normalise"
    version: ClassVar[int] = 1
    config_type = NormaliseConfig

    def __init__(self, config: NormaliseConfig, around: Around) -> None:
        super().__init__(config, around)
        self._mean = np.array(config.mean, dtype=np.float32)
        self._std = np.array(config.std, dtype=np.float32)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Numbers, a vector a row."""
        return (TensorSpec(self.config.input, "FP32", (-1, len(self._mean) if len(self._mean) > 1 else -1)),)

    def outputs(self, given: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        """Return the same shape, FP32."""
        spec = given[self.config.input]
        same_type(spec, NUMBERS, 1, 8)
        if len(self._mean) > 1 and spec.shape[-1] not in (-1, len(self._mean)):
            allowed = f"{len(self._mean)} places in the last axis, as mean and std have"
            raise SpecError("another number of places", field=spec.name, found=str(spec), allowed=allowed)
        return (TensorSpec(self.config.output, "FP32", spec.shape),)

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Normalise a request."""
        config, given = self.config, tensors[self.config.input]
        if len(self._mean) > 1 and given.shape[-1] != len(self._mean):
            found, allowed = str(list(given.shape)), f"{len(self._mean)} places in the last axis"
            raise DataError("another number of places", field=config.input, found=found, allowed=allowed)
        with np.errstate(over="ignore", invalid="ignore"):
            values = (given.astype(np.float32) - self._mean) / self._std
        if config.clip and np.isfinite(given).all():
            values = np.clip(values, -config.clip, config.clip)
        finite(config.input, values)
        return {config.output: values}
