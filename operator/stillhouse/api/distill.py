"""How the student is made: its data, its stages and losses."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.fitting_search import SEARCH_RULES, search_fits
from stillhouse.api.loss import LAYER_LOSSES, RELATION_LOSSES, told
from stillhouse.api.preparing import Augment, Balance, Deduplicate
from stillhouse.api.pupil import PUPIL_RULES, pupil_fits
from stillhouse.api.search import Search
from stillhouse.api.source import DataSource, TrainingData
from stillhouse.api.stage import Stage
from stillhouse.api.student import SMALL, Student
from stillhouse.api.teachers import TAUGHT_BY_SEVERAL, TEACHERS_ONCE, Assistant, Teacher, teachers_differ

__all__ = ["NOT_OF_SMALL", "Distill"]

_NO_LAYERS_OF_SMALL = CelRule(
    "!has(self.student.architecture) || !(self.student.architecture in"
    f" {list(SMALL)}) || !self.stages.exists(s, s.losses.exists(l, l.kind in {list(LAYER_LOSSES)}))",
    f"losses {told(LAYER_LOSSES)} hold a layer against one of the teacher's, and a student of architecture"
    f" {', '.join(SMALL[:-1])} or {SMALL[-1]} has none of its kind",
    "stages",
)
_RELATED = f"exists(s, s.losses.exists(l, l.kind in {list(RELATION_LOSSES)}))"
_CONVOLUTIONS_TEACH_NO_RELATIONS = CelRule(
    "!has(self.assistants) || !self.assistants.exists(a, has(a.student.convolution))"
    f" || !self.stages.{_RELATED} && !self.assistants.exists(a, a.stages.{_RELATED})",
    f"losses {told(RELATION_LOSSES)} look at attention, and an assistant with convolution has none",
    "assistants",
)
NOT_OF_SMALL = {"cnn": ("heads", "neurons"), "bilstm": ("heads", "neurons", "channels"), "mlp": ("heads", "channels")}
"""What can be pruned of none of them, of texts or of images (a text's cnn has no channels either: `fitting_student`)."""
_SMALL_HAS_IT = CelRule(
    "!has(self.student.architecture) || self.stages.all(s, !has(s.prune) || ("
    + " && ".join(
        f"(self.student.architecture != '{kind}' || !({' || '.join(f'has(s.prune.{part})' for part in parts)}))"
        for kind, parts in NOT_OF_SMALL.items()
    )
    + "))",
    "a student of architecture cnn, bilstm or mlp has no heads to prune, a cnn no neurons, an mlp no channels, a bilstm neither",
    "stages",
)
_CONTRASTIVE_NEEDS_GROUPS = CelRule(
    "has(self.data.columns) && (has(self.data.columns.group)"
    " || has(self.data.columns.query) && has(self.data.columns.document))"
    " || !self.stages.exists(s, s.losses.exists(l, l.kind == 'contrastive')) && (!has(self.assistants)"
    " || !self.assistants.exists(a, a.stages.exists(s, s.losses.exists(l, l.kind == 'contrastive'))))",
    "loss contrastive needs to know which rows belong together: name their column in data.columns.group,"
    " or columns query and document",
    "data.columns",
)
_CONTRASTIVE_WITHOUT_WEIGHTS = CelRule(
    "!(has(self.data.columns) && has(self.data.columns.weight) || has(self.unlabelled) && has(self.unlabelled.columns)"
    " && has(self.unlabelled.columns.weight))"
    " || !self.stages.exists(s, s.losses.exists(l, l.kind == 'contrastive')) && (!has(self.assistants)"
    " || !self.assistants.exists(a, a.stages.exists(s, s.losses.exists(l, l.kind == 'contrastive'))))",
    "loss contrastive draws groups of rows, and columns.weight single ones: a row that is drawn twice would be its own company",
    "data.columns",
)
_STOPPING_NEEDS_VALIDATION = CelRule(
    "has(self.validation) || !self.stages.exists(s, has(s.earlyStopping))"
    " && (!has(self.assistants) || !self.assistants.exists(a, a.stages.exists(s, has(s.earlyStopping))))",
    "earlyStopping needs validation: rows that say when the student gains no more",
    "validation",
)

_BY_OUTPUTS = f".all(s, s.losses.all(l, l.kind in {list(TAUGHT_BY_SEVERAL)} && !has(l.keys)))"
_TEACHERS_SAY_OUTPUTS = CelRule(
    "!has(self.teachers) || self.teachers.size() == 0 || (has(self.assistants) && self.assistants.size() > 0"
    f" ? self.assistants[0].stages{_BY_OUTPUTS} : self.stages{_BY_OUTPUTS})",
    f"several teachers teach by losses {told(TAUGHT_BY_SEVERAL)}, without keys",
    "teachers",
)
_SOMEBODY_COUNTS = CelRule(
    "!has(self.teachers) || self.teachers.size() == 0 || self.teachers.exists(t, !has(t.weight) || t.weight.matches('[1-9]'))",
    "every teacher has weight 0: at least one must count",
    "teachers",
)
_WEIGHTED_TEACHERS = CelRule(
    "!has(self.weighting) || has(self.teachers) && self.teachers.size() > 0", "weighting is of teachers: name them", "weighting"
)
_LEARNED_FROM_VALIDATION = CelRule(
    "!has(self.weighting) || self.weighting != 'learned' || has(self.validation) && self.teachers.all(t, !has(t.weight))",
    "learned weights are fitted to the labels of validation, so it must be there, and no weight given",
    "weighting",
)


class Distill(ApiModel):
    """Knowledge distillation; left out, the source is compressed as it is."""

    student: Student
    """The small model."""
    data: TrainingData
    """What it learns on; labels are needed only by losses that use them."""
    validation: DataSource | None = None
    """Rows of the gate's form that show how training goes; never the gate's own."""
    unlabelled: TrainingData | None = None
    """More rows of the same form, learned from only through what the teacher says; their labels, if any, are not read."""
    deduplicate: Deduplicate | None = None
    """Leaves out rows that repeat others, or say nearly the same."""
    balance: Balance | None = None
    """Repeats rows of rare classes."""
    augment: Augment | None = None
    """Adds changed copies of the rows."""
    report: bool | None = None
    """Reports on the rows before training: classes, lengths, repetitions, leakage between the splits. Left out: true where
    `unlabelled`, `deduplicate`, `balance` or `augment` is there."""
    max_length: Annotated[int | None, Field(ge=8, le=8192)] = None
    """Longest training text in tokens; the source's maxLength when left out. Shorter trains faster."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    """Stages in order."""
    top_logits: Annotated[int | None, Field(ge=1, le=65536)] = None
    """Of the teacher's logits keep only so many a row, the largest, and the weight of the rest together: a smaller cache where
    there are many labels. Less than there are labels; all are kept when left out."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 7
    """Seed of every random choice, kept in the receipt."""
    teachers: Annotated[tuple[Teacher, ...], Field(max_length=16)] = ()
    """Who is asked instead of the source alone, for example checkpoints of one training; the source is one of them where its URI
    stands here. Each once. The gate, a cascade and the student's first weights still know the source only. Losses that look
    inside a teacher, and those that need its embedding's axes, learn from one teacher."""
    weighting: Literal["fixed", "confidence", "select", "learned"] | None = None
    """How several teachers of classes count. `fixed` (when left out): by weight. `confidence`: for each row the more, the surer
    a teacher is of it (weight times 1 − entropy / its most). `select`: for each row only the surest. `learned`: by the weights
    under which their mixture gives the validation's labels the highest likelihood. Embeddings: fixed."""
    assistants: Annotated[tuple[Assistant, ...], Field(max_length=4)] = ()
    """Models between teacher and student, from large to small (Mirzadeh et al. 2020): each learns on the same data from the one
    before it, the student from the last."""
    search: Search | None = None
    """Looks for the student's shape; left out, `student` says it."""

    cel_rules = (
        *PUPIL_RULES,
        _CONTRASTIVE_NEEDS_GROUPS,
        _CONTRASTIVE_WITHOUT_WEIGHTS,
        *SEARCH_RULES,
        _STOPPING_NEEDS_VALIDATION,
        _NO_LAYERS_OF_SMALL,
        _SMALL_HAS_IT,
        _CONVOLUTIONS_TEACH_NO_RELATIONS,
        _TEACHERS_SAY_OUTPUTS,
        TEACHERS_ONCE,
        _SOMEBODY_COUNTS,
        _WEIGHTED_TEACHERS,
        _LEARNED_FROM_VALIDATION,
    )

    @model_validator(mode="after")
    def _stages_differ(self) -> Distill:
        pupil_fits(self.student, self.stages)
        stages = [*self.stages, *(stage for assistant in self.assistants for stage in assistant.stages)]
        contrastive = any(loss.kind == "contrastive" for stage in stages for loss in stage.losses)
        related = any(loss.kind in RELATION_LOSSES for stage in stages for loss in stage.losses)
        if related and any(each.student.convolution is not None for each in self.assistants):
            raise _CONVOLUTIONS_TEACH_NO_RELATIONS.broken(fix="take hidden, hidden-tokens or attention-transfer")
        search_fits(self)
        self._small_fits()
        columns = self.data.columns
        joined = columns.group is not None or (columns.query is not None and columns.document is not None)
        if contrastive and not joined:
            raise _CONTRASTIVE_NEEDS_GROUPS.broken()
        if contrastive and any(rows and rows.columns.weight is not None for rows in (self.data, self.unlabelled)):
            raise _CONTRASTIVE_WITHOUT_WEIGHTS.broken(fix="leave weight out, or take loss similarity or contrastive-teacher")
        if self.validation is None and any(stage.early_stopping is not None for stage in stages):
            raise _STOPPING_NEEDS_VALIDATION.broken()
        self._teachers_fit()
        return self

    def learners(self) -> list[tuple[str, Assistant | Distill]]:
        """Return who learns, each from the one before, by where it stands in the file: the assistants, then the student."""
        assistants = [(f"spec.distill.assistants[{position}]", each) for position, each in enumerate(self.assistants)]
        return [*assistants, ("spec.distill", self)]

    def _small_fits(self) -> None:
        if self.student.architecture not in SMALL:
            return
        if any(loss.kind in LAYER_LOSSES for stage in self.stages for loss in stage.losses):
            raise _NO_LAYERS_OF_SMALL.broken(fix="take pooled, or a loss of outputs: logits; embedding of sentence embeddings")
        absent = NOT_OF_SMALL[self.student.architecture]
        asked = [part for part in absent for stage in self.stages if stage.prune is not None and getattr(stage.prune, part)]
        if asked:
            raise _SMALL_HAS_IT.broken(fix=f"leave {asked[0]} out, or prune weights")

    def _teachers_fit(self) -> None:
        teachers_differ(self.teachers, weighed=self.weighting in {None, "fixed", "confidence"})
        if self.weighting is not None and not self.teachers:
            raise _WEIGHTED_TEACHERS.broken(fix="write teachers, or leave weighting out")
        weights = [teacher.weight for teacher in self.teachers if teacher.weight is not None]
        if self.weighting == "learned" and (self.validation is None or weights):
            raise _LEARNED_FROM_VALIDATION.broken(fix="leave weight out" if weights else "write validation with its data")
        if self.teachers and len(weights) == len(self.teachers) and not any(Decimal(weight) for weight in weights):
            raise _SOMEBODY_COUNTS.broken(fix="leave weight out: every teacher then counts alike")
        first = self.assistants[0].stages if self.assistants else self.stages
        losses = [loss for stage in first for loss in stage.losses]
        wrong = next((loss for loss in losses if loss.kind not in TAUGHT_BY_SEVERAL or loss.keys is not None), None)
        if self.teachers and wrong is not None:
            raise _TEACHERS_SAY_OUTPUTS.broken(
                allowed=told(TAUGHT_BY_SEVERAL),
                fix=f"leave loss {wrong.kind} out of the stages that they teach, or teach them by the source alone",
            )
