"""What a stage's losses are called, and the widths and depths that they join."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from stillhouse.passes.distill.encoded import Arrays, Texts
from stillhouse.passes.distill.live import LiveTeacher
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.pooled import FEATURES
from stillhouse.passes.distill.losses.term import Sizes
from stillhouse.passes.distill.rows import NO_LABEL
from stillhouse.passes.distill.teacher import FEATURES_FIELD
from stillhouse.passes.models.device import tensors_of
from stillhouse.passes.models.features import width_of
from stillhouse.passes.models.network import Network

__all__ = ["names_of", "sizes_of"]


def sizes_of(
    student: Network,
    teacher: Mapping[str, Tensor],
    depth: int,
    labels: npt.NDArray[np.int64] | None,
    live: LiveTeacher | None,
    data: Texts | Arrays,
) -> Sizes:
    """Return what a student and its teacher's outputs measure.

    Args:
        student: as it is before training.
        teacher: what its teacher said, by name.
        depth: the teacher's layers, 0 where it shows none.
        labels: int64 [rows], -100 where a row has none; None where no loss reads labels.
        live: the teacher where it reads along.
        data: what the student is called with.
    """
    widths = {int(name.removeprefix("hidden-")): int(t.shape[1]) for name, t in teacher.items() if name.startswith("hidden-")}
    rows = dict.fromkeys(student.signature.labels, 0)
    if labels is not None:
        counts = np.bincount(labels[labels != NO_LABEL], minlength=len(rows)).tolist()
        rows = dict(zip(rows, counts, strict=True))
    width, heads = (live.network.hidden_size, live.network.heads) if live is not None else (0, 0)
    mine, theirs = 0, 0
    if FEATURES in teacher:
        theirs = int(teacher[FEATURES].shape[1])
        mine = width_of(student, tensors_of(data.batch([0])), FEATURES_FIELD)
    return Sizes(student.layers, student.hidden_size, depth, widths, width, heads, mine, theirs, rows)


def names_of(losses: Sequence[LossConfig]) -> list[str]:
    """Return a name per term: its kind, numbered where a kind comes twice."""
    many = Counter(loss.kind for loss in losses)
    seen: Counter[str] = Counter()
    names = []
    for loss in losses:
        seen[loss.kind] += 1
        names.append(loss.kind if many[loss.kind] == 1 else f"{loss.kind}-{seen[loss.kind]}")
    return names
