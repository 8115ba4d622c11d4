"""What judges must hold no row of what was learned from: the gate's data before all, and what shows how training goes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from stillhouse.passes.base import Artifact
from stillhouse.passes.sources.columns import ARRAYS, array_role
from stillhouse.passes.sources.dataset import read_columns, read_description
from stillhouse.passes.sources.leaks import Overlap, leaks, refuse_found

__all__ = ["check_disjoint", "shown"]

ROLES = ("text", "query", "document", *ARRAYS)
FIELDS = {
    "data": "spec.gate.data",
    "training": "spec.distill.data",
    "unlabelled": "spec.distill.unlabelled",
    "calibration": "spec.compress.calibration",
    "validation": "spec.distill.validation",
    "tuning": "spec.source.fineTune.data",
    "tuningValidation": "spec.source.fineTune.validation",
}
APART = {
    "data": ("training", "unlabelled", "calibration", "validation", "tuning", "tuningValidation"),
    "validation": ("training", "unlabelled", "tuning"),
    "tuningValidation": ("tuning",),
}
"""Who judges → what it must share no row with. Calibration may read the training's rows, and so those of the validation:
what a scale is set by is neither learned from nor chosen by."""


def shown(artifact: Artifact) -> dict[str, list[str]]:
    """Return what a model is shown, column by column; of an image or features the digest of the numbers."""
    there = read_description(artifact.path).columns
    columns = read_columns(artifact.path, [role for role in ROLES if role in there])
    role = array_role(there)
    if role is not None:
        columns[role] = [
            f"{role} " + hashlib.blake2b(np.asarray(row, dtype=np.float32).tobytes(), digest_size=16).hexdigest()
            for row in columns[role]
        ]
    return columns


def check_disjoint(inputs: Mapping[str, Artifact], *, note: str = "") -> None:
    """Compare what the rows that judge show (`data`: the gate's, `validation`) with the others', texts after normalisation.

    `note` is said where leaving rows out is offered as a fix.

    Raises:
        DataError: they share a text, an image or a row of features; all that share with the same judge are told at once.
    """
    columns: dict[str, dict[str, list[str]]] = {}
    for judge, others in APART.items():
        found: dict[str, Overlap] = {}
        for other in others:
            if judge not in inputs or other not in inputs:
                continue
            columns |= {role: shown(inputs[role]) for role in (judge, other) if role not in columns}
            overlaps = (leaks(texts, judged) for texts in columns[other].values() for judged in columns[judge].values())
            first = next((each for each in overlaps if each.rows), None)
            if first is not None:
                found[FIELDS[other]] = first
        refuse_found(found, FIELDS[judge], note=note)
