"""A student that is larger than its teacher: allowed, and seldom meant. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.api.distill import Distill
from stillhouse.api.source import TEXT_TASKS, ModelSource
from stillhouse.api.student import Student
from stillhouse.planning.parameters import parameters
from stillhouse.planning.plan import Environment, Pin
from stillhouse.planning.students import small_config

__all__ = ["larger_student"]


def larger_student(distill: Distill, source: ModelSource, env: Environment) -> str:
    """Return a warning about a student with more parameters than its teacher, or "" (also where the sizes are not known).

    Of what is searched only what is said beside it is known, so that nothing is told there.
    """
    teacher, student = env.pins.get(source.uri), distill.student
    if teacher is None or student.factory is not None or distill.search is not None or source.task not in TEXT_TASKS:
        return ""
    theirs = _parameters(teacher)
    if student.uri is not None:
        own = env.pins.get(student.uri)
        mine = _parameters(own) if own is not None else 0
    else:
        mine = _of_shape(student, teacher.info)
    if not theirs or mine <= theirs:
        return ""
    field = "spec.distill.student.uri" if student.uri is not None else "spec.distill.student"
    return (
        f"{field}: about {mine / 1e6:,.1f} million parameters, and the teacher has {theirs / 1e6:,.1f}:"
        " a student larger than its teacher spares nothing"
    )


def _parameters(model: Pin) -> int:
    """Return about how many parameters a model has: by its shape where that is known, else by its size in float32."""
    hidden, layers, tokens = (int(model.info.get(name) or 0) for name in ("hiddenSize", "layers", "vocabularySize"))
    return tokens * hidden + 12 * layers * hidden * hidden or model.size // 4


def _of_shape(student: Student, teacher: Mapping[str, Any]) -> int:
    tokens = int(teacher.get("vocabularySize") or 0)
    if student.vocabulary is not None and student.vocabulary.max_size is not None:
        tokens = min(tokens, student.vocabulary.max_size)
    shape = {
        "architecture": student.architecture,
        "embeddingSize": student.embedding_size,
        "hiddenLayers": student.hidden_layers,
        "hiddenSize": student.hidden_size,
        "intermediateSize": student.intermediate_size,
        **small_config(student),
    }
    return sum(parameters(shape, teacher, tokens))
