"""About how many numbers a student has, by what the file says of it. For estimates and warnings only. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.planning.macs import macs_per_token
from stillhouse.planning.students import EMBEDDING_SIZE, convolved_macs, image_parameters, is_small, small_parameters

__all__ = ["parameters"]


def parameters(
    shape: Mapping[str, Any], teacher: Mapping[str, Any], vocabulary: int, image: Mapping[str, Any] | None = None
) -> tuple[int, int]:
    """Return (numbers in tables of token vectors, numbers in all layers) of a student; biases, positions and a head are left out.

    Args:
        shape: the configuration of the step that makes it, or what is written there; what it leaves out is the teacher's.
        teacher: `hiddenSize` and `layers`, 0 where they are not known.
        vocabulary: tokens that the student knows, 0 where it reads none.
        image: the form of what it reads instead (see `form_of`).
    """
    wide = int(teacher.get("hiddenSize") or 0)
    if is_small(shape):
        if image is not None:
            return 0, image_parameters(shape, image)
        size = int(shape.get("embeddingSize") or min(wide or EMBEDDING_SIZE, EMBEDDING_SIZE))
        table = (vocabulary + int(shape.get("bigrams") or 0)) * size
        return table, small_parameters({**shape, "embeddingSize": size}, vocabulary) - table
    hidden = int(shape.get("hiddenSize") or wide)
    bag = shape.get("architecture") == "residual"  # whose token vectors are as wide as the teacher's
    inner = 2 * wide * hidden if bag else 0
    table = vocabulary * (wide if bag else hidden)
    if shape.get("kernelSizes"):
        return table, inner + convolved_macs(shape, hidden, int(shape.get("hiddenLayers") or 1))
    layers = int(shape.get("hiddenLayers") or teacher.get("layers") or 0)
    # Each of a transformer's weights is multiplied once for a token.
    return table, inner + macs_per_token(hidden, layers, int(shape.get("intermediateSize") or 4 * hidden))
