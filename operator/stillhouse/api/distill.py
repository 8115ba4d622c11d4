"""How the student is made: its shape, its data, its stages and losses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule, Reserved, ReservedField
from stillhouse.api.preparing import Augment, Balance, Deduplicate
from stillhouse.api.scalars import Uri
from stillhouse.api.search import Search
from stillhouse.api.source import DataSource, Factory
from stillhouse.api.stage import Stage

__all__ = ["HEAD_WIDTH", "Distill", "Student", "Vocabulary", "nearest_width"]

HEAD_WIDTH = 32
"""Width of an attention head where the heads are not said."""

_ONE_WAY = CelRule(
    "[has(self.uri), has(self.factory), has(self.hiddenLayers) || has(self.hiddenSize)"
    " || has(self.intermediateSize) || has(self.attentionHeads) || has(self.init)"
    " || has(self.architecture)].filter(x, x).size() <= 1",
    "give a shape (hiddenLayers, hiddenSize, …), or uri, or factory: only one of them",
)
_WHOLE_HEADS = CelRule(
    "!has(self.hiddenSize) || !has(self.attentionHeads) || self.hiddenSize % self.attentionHeads == 0",
    "hiddenSize must be a multiple of attentionHeads",
    "hiddenSize",
)
_LAYERS_KEEP_WIDTH = CelRule(
    "!has(self.init) || self.init != 'layers' || !has(self.hiddenSize)",
    "init: layers copies the teacher's layers, so leave hiddenSize out or use init: svd",
    "hiddenSize",
)
_RESIDUAL_STARTS_STATIC = CelRule(
    "!has(self.architecture) || self.architecture != 'residual' || !has(self.init) || self.init == 'static'",
    "architecture: residual starts from static token vectors, so leave init out or use init: static",
    "init",
)
_CONTRASTIVE_NEEDS_GROUPS = CelRule(
    "has(self.data.columns) && (has(self.data.columns.group)"
    " || has(self.data.columns.query) && has(self.data.columns.document))"
    " || !self.stages.exists(s, s.losses.exists(l, l.kind == 'contrastive'))",
    "loss contrastive needs to know which rows belong together: name their column in data.columns.group,"
    " or columns query and document",
    "data.columns",
)
_STOPPING_NEEDS_VALIDATION = CelRule(
    "has(self.validation) || !self.stages.exists(s, has(s.earlyStopping))",
    "earlyStopping needs validation: rows that say when the student gains no more",
    "validation",
)
_STAGE_NAMES = CelRule(
    "self.stages.all(s, !has(s.name) || self.stages.exists_one(t, has(t.name) && t.name == s.name))",
    "every stage needs a name of its own",
    "stages",
)

_SEARCH_NEEDS_VALIDATION = CelRule(
    "!has(self.search) || has(self.validation)", "search needs validation: shapes are judged on its rows", "search"
)
_SEARCHED_OR_SAID = CelRule(
    "!has(self.search) || !(has(self.student.uri) || has(self.student.factory)"
    " || has(self.student.hiddenLayers) && has(self.search.hiddenLayers)"
    " || has(self.student.hiddenSize) && has(self.search.hiddenSize)"
    " || has(self.student.attentionHeads) && has(self.search.attentionHeads)"
    " || has(self.student.vocabulary) && has(self.search.vocabulary))",
    "what search looks for is left out of student, and student is a shape (no uri, no factory)",
    "search",
)

_ZEROS_LAST = CelRule(
    "self.stages.filter(s, has(s.prune) && has(s.prune.weights)).size() == 0"
    " || (self.stages.filter(s, has(s.prune) && has(s.prune.weights)).size() == 1"
    " && has(self.stages[self.stages.size() - 1].prune) && has(self.stages[self.stages.size() - 1].prune.weights))",
    "prune.weights belongs to the last stage: what is trained after it would fill the zeros again",
    "stages",
)


def nearest_width(width: int, step: int) -> int:
    """Return the multiple of `step` that is nearest to a width; of two the smaller one."""
    below = width // step * step
    return below if below and width - below <= below + step - width else below + step


class Vocabulary(ApiModel):
    """Trims the student's vocabulary: most of a small student is embeddings."""

    max_size: Annotated[int | None, Field(ge=256, le=1_000_000)] = None
    """Keep at most this many tokens, the most frequent of the training data. Special tokens and single characters always stay,
    so how low it can be depends on the teacher's tokenizer: about 2,000 for MiniLM's. Less is refused once that is imported."""


class Student(ApiModel):
    """The small model. Give a shape, or a model of its own (`uri`), or a Python factory."""

    architecture: Literal["encoder", "residual"] | None = None
    """What the shape is a shape of: `encoder` (a Hugging Face network of the teacher's family), `residual` (a weighted bag of
    token vectors plus a small encoder that corrects it, for sentence embeddings; it begins as a fair student and learns
    with little data). Left out: `residual` for sentence embeddings with init `static`, else `encoder`."""
    hidden_layers: Annotated[int | None, Field(ge=1, le=96)] = None
    """Transformer layers; the teacher's when left out."""
    hidden_size: Annotated[int | None, Field(ge=8, le=8192)] = None
    """Width; the teacher's when left out."""
    intermediate_size: Annotated[int | None, Field(ge=8, le=65536)] = None
    """Width of the feed-forward layers. Left out: the teacher's at its width, else four times hiddenSize."""
    attention_heads: Annotated[int | None, Field(ge=1, le=256)] = None
    """Attention heads. Left out: the teacher's at its width, else hiddenSize / 32."""
    init: Literal["static", "svd", "layers", "random"] | None = None
    """Where its first weights come from: `static` (what the teacher says of every token alone, reduced by PCA), `svd`
    (the teacher's weights projected onto the largest singular directions of its embeddings), `layers` (a choice of the
    teacher's layers, needs its hiddenSize), `random`. Left out: `layers` at the teacher's width, else `static` for
    sentence embeddings and `svd` for other tasks."""
    vocabulary: Vocabulary | None = None
    """Trims the vocabulary; left out, the student keeps the teacher's."""
    uri: Uri | None = None
    """A model of its own as the student, instead of a shape."""
    factory: Factory | None = None
    """A Python function that builds the student, instead of a shape."""

    cel_rules = (_ONE_WAY, _WHOLE_HEADS, _LAYERS_KEEP_WIDTH, _RESIDUAL_STARTS_STATIC)

    @model_validator(mode="after")
    def _one_way(self) -> Student:
        shape = (
            self.architecture,
            self.hidden_layers,
            self.hidden_size,
            self.intermediate_size,
            self.attention_heads,
            self.init,
        )
        ways = (self.uri is not None, self.factory is not None, any(value is not None for value in shape))
        if sum(ways) > 1:
            raise _ONE_WAY.broken()
        if self.hidden_size and self.attention_heads and self.hidden_size % self.attention_heads:
            width, heads = self.hidden_size, self.attention_heads
            raise _WHOLE_HEADS.broken(fix=f"write hiddenSize: {nearest_width(width, heads)}, the nearest that is")
        if self.init == "layers" and self.hidden_size is not None:
            raise _LAYERS_KEEP_WIDTH.broken()
        if self.architecture == "residual" and self.init not in {None, "static"}:
            raise _RESIDUAL_STARTS_STATIC.broken()
        return self


class Distill(ApiModel):
    """Knowledge distillation; left out, the source is compressed as it is."""

    student: Student
    """The small model."""
    data: DataSource
    """What it learns on; labels are needed only by losses that use them."""
    validation: DataSource | None = None
    """Rows of the gate's form that show how training goes; never the gate's own."""
    unlabelled: DataSource | None = None
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
    teachers: Annotated[Any, Reserved, ReservedField("several teachers", "array")] = None
    """Several teachers."""
    search: Search | None = None
    """Looks for the student's shape; left out, `student` says it."""

    cel_rules = (
        _STAGE_NAMES,
        _CONTRASTIVE_NEEDS_GROUPS,
        _SEARCH_NEEDS_VALIDATION,
        _SEARCHED_OR_SAID,
        _STOPPING_NEEDS_VALIDATION,
        _ZEROS_LAST,
    )

    @model_validator(mode="after")
    def _stages_differ(self) -> Distill:
        names = [stage.name for stage in self.stages if stage.name is not None]
        if len(set(names)) < len(names):
            raise _STAGE_NAMES.broken()
        contrastive = any(loss.kind == "contrastive" for stage in self.stages for loss in stage.losses)
        self._search_fits()
        columns = self.data.columns
        joined = columns.group is not None or (columns.query is not None and columns.document is not None)
        if contrastive and not joined:
            raise _CONTRASTIVE_NEEDS_GROUPS.broken()
        if self.validation is None and any(stage.early_stopping is not None for stage in self.stages):
            raise _STOPPING_NEEDS_VALIDATION.broken()
        if any(stage.prune is not None and stage.prune.weights is not None for stage in self.stages[:-1]):
            raise _ZEROS_LAST.broken(fix="move prune to the last stage; its recovery is where the student learns again")
        return self

    def _search_fits(self) -> None:
        if self.search is None:
            return
        if self.validation is None:
            raise _SEARCH_NEEDS_VALIDATION.broken(fix="write validation with its data")
        dimensions = ("hidden_layers", "hidden_size", "attention_heads", "vocabulary")
        both = [name for name in dimensions if getattr(self.student, name) and getattr(self.search, name)]
        if both or self.student.uri or self.student.factory:
            raise _SEARCHED_OR_SAID.broken(fix="leave it out of student, or out of search")
