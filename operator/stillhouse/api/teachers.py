"""Who teaches beside the source: other teachers, and assistants between a teacher and its student."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule, Mistake
from stillhouse.api.loss import told
from stillhouse.api.pupil import PUPIL_RULES, pupil_fits
from stillhouse.api.scalars import DecimalString, Uri
from stillhouse.api.source import Factory, Label
from stillhouse.api.stage import Stage
from stillhouse.api.student import SMALL, Student

__all__ = ["TAUGHT_BY_SEVERAL", "TEACHERS_ONCE", "Assistant", "Teacher", "teachers_differ"]

TAUGHT_BY_SEVERAL: Final = (
    *("logits", "reverse-kl", "jsd", "tvd", "hard"),
    *("similarity", "relational-distance", "relational-angle", "contrastive"),
)
"""Losses that several teachers can teach by: their probabilities can be mixed and their similarities averaged, but neither the
axes of their embeddings nor what is inside of them."""

_ASSISTANTS_ARE_TRANSFORMERS = CelRule(
    f"!has(self.student.architecture) || !(self.student.architecture in {list(SMALL)})",
    f"an assistant is a transformer, or a model by uri or factory: architectures {told(SMALL)} are for students",
    "student.architecture",
)

TEACHERS_ONCE = CelRule(
    "!has(self.teachers) || self.teachers.all(t, self.teachers.exists_one(o, o.uri == t.uri && o.labels == t.labels"
    " && has(o.maxLength) == has(t.maxLength) && (!has(t.maxLength) || o.maxLength == t.maxLength)"
    " && has(o.factory) == has(t.factory) && (!has(t.factory) || o.factory == t.factory)))",
    "each teacher once: what one counts beside the others, its weight says",
    "teachers",
)
"""Of whatever has `teachers`. The same files with other labels, another factory or another length answer otherwise."""


class Teacher(ApiModel):
    """A model that is asked: of the source's task, with its own tokenizer and its own width."""

    uri: Uri
    """`file://`, `package://`, `hf://owner/model[@revision]`, or a named source. The source's own URI: the source itself."""
    weight: DecimalString | None = None
    """How much it counts beside the others, 1 when left out; 0: it is not asked."""
    max_length: Annotated[int | None, Field(ge=8, le=8192)] = None
    """Longest text in tokens; distill.maxLength when left out, and never more than its own limit."""
    labels: Annotated[tuple[Label, ...], Field(max_length=4096)] = ()
    """Labels in the order of its outputs; `id2label` of its configuration when left out. The source's, in any order."""
    factory: Factory | None = None
    """Builds the network that the weights at `uri` belong to."""


class Assistant(ApiModel):
    """A model between the teacher and the student, which learns from the one before it and teaches the one after it."""

    student: Student
    """What it is, as `distill.student` says it."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=8)]
    """How it learns, as `distill.stages` says it."""

    cel_rules = (_ASSISTANTS_ARE_TRANSFORMERS, *PUPIL_RULES)

    @model_validator(mode="after")
    def _is_transformer(self) -> Assistant:
        if self.student.architecture in SMALL:
            raise _ASSISTANTS_ARE_TRANSFORMERS.broken(fix="leave architecture out, or name a model by uri or factory")
        pupil_fits(self.student, self.stages)
        return self


def teachers_differ(teachers: Sequence[Teacher], *, weighed: bool) -> None:
    """Raise where a teacher is named again. `weighed`: its weight can say what naming it twice would."""
    first: list[Teacher] = []
    for position, teacher in enumerate(teachers):
        alike = teacher.model_copy(update={"weight": None})
        if alike not in first:
            first.append(alike)
            continue
        before = first.index(alike)
        both = sum((Decimal(teachers[at].weight or 1) for at in (before, position)), Decimal())
        fix = f"remove it, or name another model; teachers[{before}] is the same"
        if weighed and both:
            fix += f', and with weight: "{both:f}" counts as much as both'
        raise Mistake(TEACHERS_ONCE.message, field=f"teachers[{position}]", fix=fix)
