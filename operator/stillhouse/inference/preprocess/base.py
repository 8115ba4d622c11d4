"""What a step is: a frozen configuration, what it takes, what it gives (told without running), and `run`."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.datatypes import DTYPES, Tensor, TensorSpec

__all__ = ["MOST_ELEMENTS", "NUMBERS", "Around", "Step", "finite", "same_type"]

NUMBERS = tuple(name for name in DTYPES if name != "BOOL")
MOST_ELEMENTS = 1 << 24
"""Elements that one step may give: 64 MiB of float32."""

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Around:
    """Where a chain runs. `folder`: the model's files. `allowed`: packages that `python` steps may call (none unless named).

    `declared`: nothing runs here, so nothing of a `python` step is imported: it is what it says that it takes and gives.
    """

    folder: Path
    allowed: frozenset[str] = frozenset()
    declared: bool = False


class Step(ABC, Generic[C]):
    """One step. `run` is a pure function of its tensors and may be called from several threads at once."""

    kind: ClassVar[str]
    version: ClassVar[int]
    config_type: ClassVar[type[Any]]

    def __init__(self, config: C, around: Around) -> None:
        """Load what the step needs.

        Raises:
            StillhouseError: a file or a function cannot be used.
        """
        self.config = config

    @property
    @abstractmethod
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes where nothing before it in the chain says more; names are those of the configuration."""

    @abstractmethod
    def outputs(self, given: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        """Return what it gives for these inputs.

        Raises:
            SpecError: it takes no such type or rank; `field` is the tensor's name.
        """

    @abstractmethod
    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return its outputs by name; `tensors` holds its inputs, of the types and ranks that `outputs` let pass.

        Raises:
            DataError: what the tensors hold cannot be used; the message names the tensor and the row.
        """

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data that tells this step from every other one."""
        return {"kind": self.kind, "version": self.version, **dataclasses.asdict(self.config)}  # type: ignore[call-overload]


def same_type(spec: TensorSpec, datatypes: tuple[str, ...], least: int, most: int) -> None:
    """Refuse a tensor of another type, or with fewer than `least` or more than `most` dimensions.

    Raises:
        SpecError: with the tensor's name.
    """
    if spec.datatype not in datatypes or not least <= len(spec.shape) <= most:
        ranks = f"{least} dimensions" if least == most else f"{least} to {most} dimensions"
        raise SpecError(
            "the step does not take this tensor", field=spec.name, found=str(spec), allowed=f"{' or '.join(datatypes)}, {ranks}"
        )


def finite(name: str, tensor: Tensor) -> None:
    """Refuse values that are not finite.

    Raises:
        DataError: with the tensor's name and the first row that has one.
    """
    good = np.isfinite(tensor)
    if not good.all():
        row = int(np.argwhere(~good)[0][0])
        raise DataError("the tensor holds values that are not finite", field=f"{name}[{row}]", allowed="finite numbers")
