"""Which field of the resource a step's error is about. Pure.

Passes do not know what they work for: the same import reads the source, a student, training data or the gate's. They name
fields relative to what they read (`source.uri`), or to the role of the input that they read (`data.columns.label`,
`validation.columns.text`, `teacher.factory`); a step's id and parents say where that stands.
"""

from __future__ import annotations

import dataclasses
import re

from stillhouse.errors import Problem
from stillhouse.planning.plan import Step

__all__ = ["as_written", "data_field"]

_DATA = {
    "resolve/data": "spec.distill.data",
    "resolve/validation": "spec.distill.validation",
    "resolve/unlabelled": "spec.distill.unlabelled",
    "resolve/calibration": "spec.compress.calibration",
    "resolve/gate-data": "spec.gate.data",
    "resolve/index-data": "spec.index.data",
    "resolve/cascade-threshold": "spec.edge.cascade.data",
    "resolve/cascade-calibration": "spec.edge.cascade.calibration",
    "resolve/cascade-test": "spec.edge.cascade.test",
}
_MADE = dict.fromkeys(("train/pooled", "train/deduplicated", "train/balanced", "train/augmented"), "spec.distill.data")
_RELATIVE = re.compile(
    r"(?<![\w./-])(?:(?P<uri>source\.uri\b)|(?P<spec>source|compress)(?=\.[a-z])|"
    r"(?P<data>data|validation)(?=\.(?:uri|columns)\b)|(?P<model>model|teacher|student)(?=\.factory\b))"
)
"""Also within a sentence, such as a fix; `data.parquet` is a file and stays."""


def data_field(step: Step) -> str:
    """Return where the data that a step imports stands in the resource, "" for a step that imports none."""
    return _DATA.get(step.id, "")


def as_written(step: Step, problem: Problem) -> Problem:
    """Return the problem with its fields named as they stand in the resource; what is no relative field stays as it is."""
    # An imported student has a URI of its own; its task, labels and longest text are the source's.
    uri = "spec.distill.student.uri" if step.id == "train/student" else "spec.source.uri"
    if step.pass_name == "import-step":
        uri = f"spec.pipeline.steps[{step.config['position']}].onnx.uri"

    def place(match: re.Match[str]) -> str:
        if match["uri"]:
            return uri
        if match["spec"]:
            return f"spec.{match['spec']}"
        role = match["data"] or match["model"]
        parent = step.parents.get(role, "")
        if match["data"]:
            return _DATA.get(step.id) or _DATA.get(parent) or _MADE.get(parent, role)
        # A model that no parent names is the one that the step imports or makes.
        return "spec.distill.student" if (parent or step.id).startswith("train/") else "spec.source"

    field, allowed, fix = (_RELATIVE.sub(place, text) for text in (problem.field, problem.allowed, problem.fix))
    return dataclasses.replace(problem, field=field, allowed=allowed, fix=fix)
