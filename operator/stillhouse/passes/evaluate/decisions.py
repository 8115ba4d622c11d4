"""Whether a pipeline decides as it would on what the teacher says: its steps run here on the teacher's answers, too.

The steps are the same on both sides, so what differs is what the student makes of the rows. Several numbers a row are a choice:
the position of the largest counts. One value a row is compared as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.postprocess import top_labels
from stillhouse.inference.signature import Signature
from stillhouse.inference.step_session import StepSession
from stillhouse.inference.steps import Step, read_steps, step_file
from stillhouse.passes.evaluate.intervals import Interval, bootstrap
from stillhouse.passes.evaluate.metrics import SHARE, Outputs
from stillhouse.passes.evaluate.rows import GateRows

__all__ = ["agreement_of", "decided"]

Array = npt.NDArray[Any]
_ROWS = 256
_ROLES = ("text", "query", "document")


def decided(artifact: Path, teacher: Outputs, rows: GateRows, threads: int = 1) -> dict[str, Array]:
    """Return what the steps of a candidate say of the teacher's answers, by its name in the answer.

    Raises:
        SpecError: they cannot take what the teacher says, because the student's embeddings have another width.
    """
    signature = Signature.read(artifact)
    values: dict[str, Array]
    if rows.arrays is not None:
        values = {f"request.{signature.tensor}": rows.arrays}
    else:
        texts = [text for role in _ROLES for text in rows.columns.get(role, [])]
        values = {"request.TEXT": np.array(texts, dtype=object)[:, np.newaxis]}
    if teacher.probabilities is not None:
        values["PROBABILITIES"] = teacher.probabilities
        values["LABEL"] = np.array(top_labels(teacher.probabilities, signature.labels), dtype=object)[:, np.newaxis]
    else:
        parts = [getattr(teacher, role) for role in _ROLES if role in rows.columns]
        values["EMBEDDING"] = np.concatenate(parts)
    found: dict[str, Array] = {}
    for position, step in enumerate(read_steps(artifact)):
        given = {name: values[source] for name, source in step.inputs.items()}
        _check_width(position, step, given)
        for name, array in _run(artifact / step_file(step.name), step, given, threads).items():
            values[f"{step.name}.{name}"] = array
            if name in step.outputs:
                found[step.outputs[name]] = array
    return found


def agreement_of(output: str, student: Mapping[str, Array], teacher: Mapping[str, Array]) -> Interval:
    """Return the share of rows on which two answers choose the same, with its 95 % interval.

    Raises:
        DataError: what is answered is a number with a fraction, which is no choice.
    """
    same = _choice(output, student[output]) == _choice(output, teacher[output])
    per_row = same.reshape(len(same), -1).all(axis=1).astype(np.float64)
    return bootstrap(lambda rows: float(per_row[rows].mean()), len(per_row), within=SHARE)


def _choice(output: str, values: Array) -> Array:
    table = values.reshape(len(values), -1)
    if table.dtype == object:  # texts: of the steps here bytes, of the client str
        return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in table.ravel()]).reshape(
            table.shape
        )
    if table.dtype.kind != "f":
        return table
    if table.shape[1] == 1:
        raise DataError(
            "agreement needs a choice: several numbers a row, a whole number, a text, or true and false",
            field="spec.gate.metrics",
            found=f"{output}: one number with a fraction",
            fix="let the step give its decision too, and name that output",
        )
    return np.asarray(table.argmax(axis=1))


def _run(path: Path, step: Step, given: Mapping[str, Array], threads: int) -> dict[str, Array]:
    session = StepSession(path, threads)
    names = [each.name for each in step.gives]
    total = len(next(iter(given.values())))
    parts = [
        session.run({name: array[start : start + _ROWS] for name, array in given.items()}, names)
        for start in range(0, total, _ROWS)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _check_width(position: int, step: Step, given: Mapping[str, Array]) -> None:
    for tensor in step.takes:
        found = given[tensor.name].shape[1:]
        if found != tensor.shape:
            raise SpecError(
                "the steps cannot decide on what the teacher says, to compare with",
                field=f"spec.pipeline.steps[{position}].inputs.{tensor.name}",
                found=f"{step.inputs[tensor.name]} of the teacher: {list(found)} a row",
                allowed=f"{list(tensor.shape)}, as the student says it",
                fix="remove the metric with output, or make the student's embeddings as wide as the teacher's",
            )
