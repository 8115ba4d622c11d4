"""The gate's rows must be new to the model: not in the training data, not in the calibration data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from stillhouse.passes.base import Artifact
from stillhouse.passes.sources.dataset import read_columns, read_description
from stillhouse.passes.sources.leaks import refuse_leaks

__all__ = ["check_disjoint", "shown"]

ROLES = ("text", "query", "document", "image")
OTHERS = (("training", "spec.distill.data"), ("calibration", "spec.compress.calibration"))


def shown(artifact: Artifact) -> dict[str, list[str]]:
    """Return what a model is shown, column by column; of an image the digest of its pixels."""
    there = read_description(artifact.path).columns
    columns = read_columns(artifact.path, [role for role in ROLES if role in there])
    if "image" in columns:
        columns["image"] = [
            "image " + hashlib.blake2b(np.asarray(row, dtype=np.float32).tobytes(), digest_size=16).hexdigest()
            for row in columns["image"]
        ]
    return columns


def check_disjoint(inputs: Mapping[str, Artifact]) -> None:
    """Compare what the gate's rows show with that of the inputs `training` and `calibration`, texts after normalisation.

    Raises:
        DataError: they share a text or an image.
    """
    if "data" not in inputs:
        return
    gate = shown(inputs["data"])
    for role, field in OTHERS:
        if role not in inputs:
            continue
        for texts in shown(inputs[role]).values():
            for held_out in gate.values():
                refuse_leaks({field: texts, "spec.gate.data": held_out}, "spec.gate.data")
