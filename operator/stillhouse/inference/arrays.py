"""Inputs that are arrays of one shape: images, which are normalised here, and features, which the graph normalises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhouse.errors import DataError
from stillhouse.inference.image import normalise
from stillhouse.inference.signature import FeatureSpec, Signature

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["checked_features", "place_of", "prepared"]

_AXES = {1: ("columns",), 2: ("length", "channels")}


def prepared(values: npt.NDArray[np.float32], signature: Signature) -> npt.NDArray[np.float32]:
    """Return what the graph takes: images normalised, features as they are.

    Args:
        values: float32 [n, channels, height, width] in [0, 1], [n, columns] or [n, length, channels].
        signature: of a model that takes arrays.

    Raises:
        DataError: another shape, a value that is not finite, or the model takes texts.
    """
    if signature.image is not None:
        return normalise(values, signature.image)
    if signature.features is None:
        raise DataError("this model takes texts, not arrays", field="inputs", allowed="TEXT")
    return checked_features(values, signature.features)


def checked_features(values: npt.NDArray[np.float32], spec: FeatureSpec) -> npt.NDArray[np.float32]:
    """Return features as float32, of the same shape.

    Raises:
        DataError: another shape, or a value that is not finite: a missing one is for the client to fill.
    """
    import numpy as np

    if values.ndim != len(spec.shape) + 1 or tuple(values.shape[1:]) != spec.shape:
        raise DataError(
            "the features have another shape",
            field="FEATURES",
            found=str(list(values.shape)),
            allowed=f"[n, {', '.join(map(str, spec.shape))}] ({', '.join(_AXES[len(spec.shape)])})",
        )
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, *place = wrong[0].tolist()
        raise DataError(
            "a feature is not finite",
            field="FEATURES",
            found=f"{values[tuple(wrong[0])]} in row {row + 1}, {place_of(place, spec)}",
            allowed="finite numbers: what is missing has to be filled before",
        )
    return np.ascontiguousarray(values, dtype=np.float32)


def place_of(place: list[int], spec: FeatureSpec) -> str:
    """Say where in a row a number stands: its column, or its sample and channel."""
    if spec.columns:
        return f"column {spec.columns[place[0]]}"
    return f"sample {place[0] + 1}, channel {place[1] + 1}"
