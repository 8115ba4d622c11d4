"""Which field of the resource a step's error is about. Pure.

Passes do not know what they work for: the same import reads the source, a student, training data or the gate's. They name
fields relative to what they read (`source.uri`), or to the role of the input that they read (`data.columns.label`,
`validation.columns.text`, `teacher.factory`); a step's id and parents say where that stands. A stage they call
`spec.distill.stages[]`; its number is among the step's `places`.
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
    "resolve/fine-tune-data": "spec.source.fineTune.data",
    "resolve/fine-tune-validation": "spec.source.fineTune.validation",
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
    r"(?P<data>data|validation|calibration)(?=\.(?:uri|columns)\b)|(?P<model>model|teacher|student)(?=\.factory\b))"
)
"""Also within a sentence, such as a fix; `data.parquet` is a file and stays."""
_TEACHER = re.compile(r"resolve/teacher-(\d+)")
_ASSISTANT = re.compile(r"train/assistant-(\d+)(?=$|-)")


def data_field(step: Step) -> str:
    """Return where the data that a step imports stands in the resource, "" for a step that imports none."""
    return _DATA.get(step.id, "")


def as_written(step: Step, problem: Problem) -> Problem:
    """Return the problem with its fields named as they stand in the resource; what is no relative field stays as it is."""
    # An imported student has a URI of its own; its task, labels and longest text are the source's.
    teacher = _TEACHER.fullmatch(step.id)
    own = f"spec.distill.teachers[{int(teacher[1]) - 1}]" if teacher else "spec.source"
    uri = f"{_pupil(step.id) if step.id.startswith('train/') else own}.uri"
    if step.pass_name == "import-step":
        uri = f"spec.pipeline.steps[{step.config['position']}].onnx.uri"

    def place(match: re.Match[str]) -> str:
        if match["uri"]:
            return uri
        if match["spec"]:
            return own if match["spec"] == "source" else f"spec.{match['spec']}"
        role = match["data"] or match["model"]
        parent = step.parents.get(role, "")
        if match["data"]:
            return _DATA.get(step.id) or _DATA.get(parent) or _MADE.get(parent, role)
        # A model that no parent names is the one that the step imports or makes.
        maker = parent or step.id
        asked = _TEACHER.fullmatch(maker)
        if asked:
            return f"spec.distill.teachers[{int(asked[1]) - 1}]"
        return _pupil(maker) if maker.startswith("train/") and maker != "train/teacher" else "spec.source"

    def written(text: str) -> str:
        text = _RELATIVE.sub(place, text)
        for named in sorted(step.places, key=len, reverse=True):  # a loss before the stage that it stands in
            text = re.sub(rf"{re.escape(named)}(?!\w)", step.places[named], text)
        # What a pass says of the student is of the assistant, where that is whom it makes.
        return text.replace("spec.distill.student", _pupil(step.id))

    field, allowed, fix = (written(text) for text in (problem.field, problem.allowed, problem.fix))
    return dataclasses.replace(problem, field=field, allowed=allowed, fix=fix)


def _pupil(step_id: str) -> str:
    """Return where the shape stands of whom a step of the training makes."""
    number = _ASSISTANT.match(step_id)
    return f"spec.distill.assistants[{int(number[1]) - 1}].student" if number else "spec.distill.student"
