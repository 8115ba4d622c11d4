"""The small model, as the resource names it: a shape, a model of its own, or a Python factory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.scalars import Uri
from stillhouse.api.source import Factory

__all__ = ["HEAD_WIDTH", "Student", "Vocabulary", "nearest_width"]

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
