"""Quality of a candidate on the gate's rows, each metric with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError
from stillhouse.passes.evaluate.intervals import Interval, Share, bootstrap
from stillhouse.passes.ranking import ranks, reciprocal

__all__ = ["Outputs", "evaluate", "overlap_at_k"]

Floats = npt.NDArray[np.float32]
ROW_BLOCK = 512
# Between what a metric can be; a share of the teacher's figure is 1 where the two are alike.
SHARE, COSINE, LOG_LOSS, DROP, RELATIVE = (0.0, 1.0), (-1.0, 1.0), (0.0, 35.0), (-1.0, 1.0), (0.0, 2.0)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model answered on the gate's rows.

    `text`, `query`, `document`: embeddings float32 [rows, dimension], L2-normalised. `probabilities`: float32
    [rows, labels] in the order of the labels. `steps`: what the steps of a pipeline say of every text or image that was sent, in
    the order of these fields.
    """

    text: Floats | None = None
    query: Floats | None = None
    document: Floats | None = None
    probabilities: Floats | None = None
    steps: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Return whether every answer is a number."""
        return all(
            bool(np.isfinite(values).all())
            for values in (self.text, self.query, self.document, self.probabilities)
            if values is not None
        )

    @property
    def rows(self) -> Floats:
        """Return one output a row: embeddings of texts (or queries), or probabilities."""
        for values in (self.text, self.query, self.probabilities):
            if values is not None:
                return values
        raise DataError("there is nothing to evaluate", field="spec.gate.data", allowed="text, query and document, or image")


def overlap_at_k(student: Floats, teacher: Floats, k: int) -> npt.NDArray[np.float64]:
    """Return for every row the share of its k nearest rows by the teacher that the student finds as well."""
    n = len(student)
    k = min(k, n - 1)
    shares = np.empty(n)
    for start in range(0, n, ROW_BLOCK):
        near = []
        for space in (student, teacher):
            block = space[start : start + ROW_BLOCK] @ space.T
            rows = np.arange(len(block))
            block[rows, start + rows] = -np.inf
            near.append(np.argpartition(-block, k - 1, axis=1)[:, :k])
        for row, (mine, theirs) in enumerate(zip(*near, strict=True)):
            shares[start + row] = len(np.intersect1d(mine, theirs)) / k
    return shares


def macro_f1(truth: npt.NDArray[np.int64], guess: npt.NDArray[np.int64], classes: int) -> float:
    """Return the mean F1 over the classes that occur in `truth` or `guess`."""
    table = np.bincount(truth * classes + guess, minlength=classes * classes).reshape(classes, classes)
    hits = np.diag(table).astype(np.float64)
    both = table.sum(axis=0) + table.sum(axis=1)
    present = both > 0
    return float((2 * hits[present] / both[present]).mean())


def _recall(truth: npt.NDArray[np.int64], guess: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    total = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[truth == guess], minlength=classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, hits / np.maximum(total, 1), np.nan)


def evaluate(
    name: str,
    student: Outputs,
    teacher: Outputs | None,
    truth: npt.NDArray[np.int64] | None,
    *,
    relative: bool,
) -> Interval:
    """Return a metric of the student with its 95 % interval.

    `truth` are the rows' labels as positions in the label order, int64 [rows]. With `relative` the figure is the
    student's divided by the teacher's on the same resampled rows (paired bootstrap), and both stand beside it (`Share`).

    Raises:
        DataError: the gate's data has not what the metric needs, or the teacher's own figure is 0, which no share can
            be taken of.
    """
    if not student.finite:
        nothing = float("nan")
        return Interval(nothing, nothing, nothing, len(student.rows))
    found = _evaluate(name, student, teacher, truth, relative=relative)
    if np.isnan(found.estimate):
        raise DataError(
            "the teacher's own figure is 0 on these rows (or not a number): a share of it says nothing",
            field="spec.gate.metrics",
            found=f"{name} of teacher",
            fix="give the limit as an absolute one (leave out `of: teacher`), or the gate other rows",
        )
    if not relative or teacher is None or name.startswith("neighbour-overlap"):  # the teacher's overlap with itself says nothing
        return found
    mine, theirs = (_evaluate(name, each, None, truth, relative=False) for each in (student, teacher))
    return Share(found.estimate, found.low, found.high, found.n, mine, theirs)


def _evaluate(
    name: str,
    student: Outputs,
    teacher: Outputs | None,
    truth: npt.NDArray[np.int64] | None,
    *,
    relative: bool,
) -> Interval:
    base, _, number = name.partition("@")
    k = int(number) if number else 0
    if base in {"cosine", "neighbour-overlap", "agreement", "per-class-loss"} or relative:
        teacher = _need(teacher, name, "the teacher's outputs")
    n = len(student.rows)
    if base == "mrr":
        mine = reciprocal(_rank_of(student, name), k)
        theirs = reciprocal(_rank_of(teacher, name), k) if relative and teacher is not None else None
        return _ratio(mine, theirs)
    if base == "cosine" and teacher is not None:
        pairs = _embeddings(student, teacher)
        per_row = np.concatenate([(a * b).sum(axis=1) for a, b in pairs]).astype(np.float64)
        return _ratio(per_row, None, COSINE)
    if base == "neighbour-overlap" and teacher is not None:
        pairs = _embeddings(student, teacher)
        mine_all, theirs_all = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        if len(mine_all) < 2:
            raise DataError(f"metric {name} needs two rows or more", field="spec.gate.data", found="1 row")
        return _ratio(overlap_at_k(mine_all, theirs_all, k), None)
    guess = _guess(student, name)
    if base == "agreement":
        return _ratio((guess == _guess(teacher, name)).astype(np.float64), None)
    labels = _need(truth, name, "column label")
    classes = student.rows.shape[1]
    other = _guess(teacher, name) if teacher is not None else None
    if base == "accuracy":
        theirs = (other == labels).astype(np.float64) if relative and other is not None else None
        return _ratio((guess == labels).astype(np.float64), theirs)
    if base == "log-loss":
        theirs = _log_loss(teacher, labels) if relative and teacher is not None else None
        return _ratio(_log_loss(student, labels), theirs, LOG_LOSS)
    if base == "macro-f1":
        return bootstrap(
            lambda rows: _divide(
                macro_f1(labels[rows], guess[rows], classes),
                macro_f1(labels[rows], other[rows], classes) if relative and other is not None else None,
            ),
            n,
            within=RELATIVE if relative else SHARE,
        )
    theirs_guess = _need(other, name, "the teacher's outputs")
    return bootstrap(
        lambda rows: float(
            np.nanmax(_recall(labels[rows], theirs_guess[rows], classes) - _recall(labels[rows], guess[rows], classes))
        ),
        n,
        within=DROP,
    )


def _need(value: object, metric: str, what: str) -> Any:
    if value is None:
        raise DataError(f"metric {metric} needs {what}", field="spec.gate.data", fix="name the column in spec.gate.data.columns")
    return value


def _rank_of(outputs: Outputs | None, name: str) -> npt.NDArray[np.int64]:
    if outputs is None or outputs.query is None or outputs.document is None:
        raise DataError(f"metric {name} needs pairs", field="spec.gate.data.columns", allowed="query and document")
    return ranks(outputs.query, outputs.document)


def _embeddings(student: Outputs, teacher: Outputs) -> list[tuple[Floats, Floats]]:
    pairs = [
        (mine, theirs)
        for mine, theirs in (
            (student.text, teacher.text),
            (student.query, teacher.query),
            (student.document, teacher.document),
        )
        if mine is not None and theirs is not None
    ]
    if not pairs:
        raise DataError(
            "the student and the teacher have no embeddings in common",
            field="spec.gate.data.columns",
            allowed="text, or query and document",
        )
    if pairs[0][0].shape[1] != pairs[0][1].shape[1]:
        raise DataError(
            "the student's embeddings have another dimension than the teacher's",
            field="spec.gate.metrics",
            found=f"{pairs[0][0].shape[1]} and {pairs[0][1].shape[1]}",
            fix="use mrr@k, which needs no common space, or a student in the teacher's dimension",
        )
    return pairs


def _guess(outputs: Outputs | None, name: str) -> npt.NDArray[np.int64]:
    if outputs is None or outputs.probabilities is None:
        raise DataError(f"metric {name} needs a classifier's outputs", field="spec.gate.metrics")
    return np.asarray(outputs.probabilities.argmax(axis=1), dtype=np.int64)


def _log_loss(outputs: Outputs, truth: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    assert outputs.probabilities is not None
    right = outputs.probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return np.asarray(-np.log(np.clip(right, 1e-15, 1.0)), dtype=np.float64)


def _divide(mine: float, theirs: float | None) -> float:
    if theirs is None:
        return mine
    return mine / theirs if theirs > 0 else float("nan")


def _ratio(
    mine: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64] | None, within: tuple[float, float] = SHARE
) -> Interval:
    """Bootstrap the mean of per-row figures, which lie `within` two ends, or the ratio of two means over the same rows."""
    return bootstrap(
        lambda rows: _divide(float(mine[rows].mean()), None if theirs is None else float(theirs[rows].mean())),
        len(mine),
        within=within if theirs is None else RELATIVE,
    )
