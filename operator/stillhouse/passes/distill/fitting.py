"""Whether a student can be held to what its teacher and its rows say: the same classes in the same places, as many numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from stillhouse.api.loss import WITH_LABELS
from stillhouse.errors import DataError, SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.rows import NO_LABEL, Rows

__all__ = ["check_student", "labels_of"]

_NUMBER_BY_NUMBER: Final = ("embedding", "contrastive-teacher")
_FIELD: Final = "spec.distill.student.uri"


def check_student(losses: Sequence[LossConfig], student: Signature, labels: Sequence[str], width: int) -> None:
    """Refuse an imported student whose outputs mean something else than its teacher's.

    Classes are compared place by place in losses, validation and gate: with the same names in other places a student would
    learn the wrong ones, and nobody would see it.

    Args:
        losses: of the stage.
        student: what it is before training.
        labels: the teacher's, in the order of its outputs; empty where it embeds.
        width: how many numbers the teacher's embedding has.

    Raises:
        SpecError: other labels, another order, or another width where a loss compares number by number.
    """
    theirs = tuple(labels)
    if student.labels != theirs:
        same = sorted(student.labels) == sorted(theirs)
        order = "the student's classes stand in another order than its teacher's"
        raise SpecError(
            order if same else "the student has other classes than its teacher",
            field=_FIELD,
            found=_shown(student.labels),
            allowed=_shown(theirs),
            fix=_anew(student.labels, theirs),
        )
    kind = next((loss.kind for loss in losses if loss.kind in _NUMBER_BY_NUMBER), None)
    if kind is not None and not theirs and width and student.dimension != width:
        raise SpecError(
            f"loss {kind!r} compares embeddings number by number, and the student's has another width than its teacher's",
            field=_FIELD,
            found=f"{student.dimension} numbers",
            allowed=f"{width} numbers",
            fix="take losses that compare rows among themselves (similarity, relational-distance), or a student by its shape,"
            " which gets a projection to the teacher's width",
        )


def labels_of(losses: Sequence[LossConfig], rows: Rows, names: Sequence[str]) -> npt.NDArray[np.int64] | None:
    """Return label numbers int64 [rows] in the order of `names`, -100 where a row has none; None where no loss reads labels.

    Raises:
        DataError: a label that is none of the names, or no label where a loss needs them.
    """
    kinds = {loss.kind for loss in losses}
    labels = rows.labels(names) if kinds.intersection(WITH_LABELS) else None
    if "hard" in kinds and (labels is None or not (labels != NO_LABEL).any()):
        raise DataError(
            "loss 'hard' needs labels",
            field="spec.distill.data.columns.label",
            found="no label column" if labels is None else "no row has a label",
            fix="name the column: columns: {label: YOUR_COLUMN}",
        )
    return labels


def _anew(labels: Sequence[str], theirs: Sequence[str]) -> str:
    """Return what mends it. Names that a configuration was given for want of any, LABEL_0 and so on, may mean the teacher's."""
    anew = "train that model's head anew in this order, or leave uri out: a student made of its teacher has its classes"
    unnamed = len(labels) == len(theirs) and all(label == f"LABEL_{number}" for number, label in enumerate(labels))
    if not unnamed:
        return anew
    return f"where its outputs mean the teacher's classes in this order, name them: spec.source.labels; otherwise {anew}"


def _shown(labels: Sequence[str]) -> str:
    if not labels:
        return "an embedding, no classes"
    return f"{len(labels)} classes: {', '.join(labels[:10])}{', …' if len(labels) > 10 else ''}"
