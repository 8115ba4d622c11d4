"""The gate's rows must be new to the model: not in the training data, not in the calibration data."""

from __future__ import annotations

from collections.abc import Mapping

from stillhouse.errors import DataError
from stillhouse.passes.base import Artifact
from stillhouse.passes.sources.dataset import leaks, read_columns

__all__ = ["check_disjoint"]

ROLES = ("text", "query", "document")


def _texts(artifact: Artifact) -> list[str]:
    found: list[str] = []
    for values in read_columns(artifact.path, ROLES).values():
        found.extend(values)
    return found


def check_disjoint(inputs: Mapping[str, Artifact]) -> None:
    """Compare the gate's texts with those of the inputs `training` and `calibration`, after normalisation.

    Raises:
        DataError: they share rows.
    """
    if "data" not in inputs:
        return
    gate = _texts(inputs["data"])
    for role, field in (("training", "spec.distill.data"), ("calibration", "spec.compress.calibration")):
        if role not in inputs:
            continue
        found = leaks(gate, _texts(inputs[role]))
        if found.count:
            raise DataError(
                f"{found.count} of the gate's texts are also in {field}",
                field="spec.gate.data",
                found="; ".join(repr(text[:60]) for text in found.examples[:3]),
                allowed="disjoint data: the gate measures on rows that the model has never seen",
                fix=f"remove the shared rows from {field}",
            )
