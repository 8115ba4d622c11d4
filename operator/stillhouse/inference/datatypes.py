"""The protocol's names of types, and what a tensor is before there is one: name, type and shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.typenames import SIZES

__all__ = ["DTYPES", "ITEM_BYTES", "Tensor", "TensorSpec", "datatype_name"]

_KINDS = {"BOOL": "?", "UINT": "u", "INT": "i", "FP": "f"}
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind if kind == "?" else f"{kind}{size}")
    for name, size in SIZES.items()
    if (kind := _KINDS.get(name.rstrip("0123456789"))) is not None
}
"""Types of a fixed size that numpy has (not BF16). BYTES is beside them: arrays of `object` that hold `bytes`."""
ITEM_BYTES = {name: kind.itemsize for name, kind in DTYPES.items()}
_NAMES = {kind: name for name, kind in DTYPES.items()}
_MOST_DIMENSIONS = 16

Tensor = npt.NDArray[Any]


def datatype_name(tensor: Tensor) -> str | None:
    """Return the protocol's name of an array's type, None where it has none."""
    return "BYTES" if tensor.dtype == object else _NAMES.get(tensor.dtype.newbyteorder("="))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, type (the protocol's name) and shape; -1 stands for any length.

    Raises:
        SpecError: no such type, or no such shape.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= 100:
            raise SpecError("a tensor needs a name", field="name", found=self.name[:100], allowed="1 to 100 characters")
        if self.datatype not in DTYPES and self.datatype != "BYTES":
            allowed = ", ".join((*DTYPES, "BYTES"))
            raise SpecError("no such datatype", field=f"{self.name}.datatype", found=self.datatype[:20], allowed=allowed)
        if len(self.shape) > _MOST_DIMENSIONS or any(each < -1 for each in self.shape):
            raise SpecError(
                "no such shape",
                field=f"{self.name}.shape",
                found=str(list(self.shape[: _MOST_DIMENSIONS + 1])),
                allowed=f"at most {_MOST_DIMENSIONS} numbers; -1 for any length",
            )

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"

    def check(self, tensor: Tensor) -> None:
        """Refuse an array of another type or shape.

        Raises:
            DataError: with the tensor's name.
        """
        fits = len(tensor.shape) == len(self.shape) and all(
            wanted in (-1, found) for wanted, found in zip(self.shape, tensor.shape, strict=True)
        )
        datatype = datatype_name(tensor)
        if not fits or datatype != self.datatype:
            raise DataError(
                "the tensor has another type or shape",
                field=self.name,
                found=f"{datatype or tensor.dtype} {list(tensor.shape)}",
                allowed=f"{self.datatype} {list(self.shape)}",
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}
