"""The small model: a shape, a model of its own, or a Python factory."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.loss import told
from stillhouse.api.scalars import Uri, whole
from stillhouse.api.source import Factory

__all__ = ["DOUBLED", "HEAD_WIDTH", "SMALL", "Convolution", "Student", "Vocabulary", "heads_and_neurons", "nearest_width"]

HEAD_WIDTH = 32
"""Width of an attention head where the heads are not said."""

DOUBLED = 10
"""Layers of a dilated convolution at most: each looks twice as far as the one before, the tenth 512 times as far as the first."""

SMALL: Final = ("cnn", "bilstm", "mlp")
"""Architectures of students that are no transformers."""
_IS_SMALL = f"(has(self.architecture) && self.architecture in {list(SMALL)})"

_ONE_WAY = CelRule(
    "[has(self.uri), has(self.factory), has(self.hiddenLayers) || has(self.hiddenSize)"
    " || has(self.intermediateSize) || has(self.attentionHeads) || has(self.init)"
    " || has(self.architecture) || has(self.embeddingSize) || has(self.pooling) || has(self.convolution)"
    " || has(self.bigrams)].filter(x, x).size() <= 1",
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
_HEADS_OF_TRANSFORMERS = CelRule(
    f"!{_IS_SMALL} || !has(self.attentionHeads) && !has(self.intermediateSize)",
    f"attentionHeads and intermediateSize are a transformer's: architectures {told(SMALL)} have none",
    "architecture",
)
_SMALL_STARTS = CelRule(
    f"!{_IS_SMALL} || !has(self.init) || self.init in ['svd', 'random']",
    f"architectures {told(SMALL)} start from init svd (their token vectors are the teacher's, made narrower) or random",
    "init",
)
_EMBEDDING_OF_SMALL = CelRule(
    f"!has(self.embeddingSize) || {_IS_SMALL}", f"embeddingSize belongs to architectures {told(SMALL)}", "embeddingSize"
)
_POOLING_OF_STATES = CelRule(
    "!has(self.pooling) || (has(self.architecture) && self.architecture in ['cnn', 'bilstm'])",
    "pooling belongs to architectures cnn and bilstm",
    "pooling",
)
_CONVOLUTION_OF_CNN = CelRule(
    "!has(self.convolution) || (has(self.architecture) && self.architecture in ['cnn', 'residual'])",
    "convolution belongs to architectures cnn and residual",
    "convolution",
)
_NO_HEADS_IN_CONVOLUTIONS = CelRule(
    "!has(self.convolution) || !has(self.attentionHeads) && !has(self.intermediateSize)",
    "attentionHeads and intermediateSize are attention's: convolution puts convolutions in its place",
    "convolution",
)
_STAGES_OF_CNN = CelRule(
    "!has(self.convolution) || !has(self.convolution.channels) || (has(self.architecture) && self.architecture == 'cnn')",
    "convolution.channels belongs to architecture cnn",
    "convolution",
)
_DILATED_ENDS = CelRule(
    "!has(self.convolution) || !has(self.convolution.dilated) || !self.convolution.dilated || !has(self.hiddenLayers)"
    f" || self.hiddenLayers <= {DOUBLED}",
    f"dilated looks twice as far with every layer, beyond any text after {DOUBLED}",
    "hiddenLayers",
)
_BIGRAMS_OF_MLP = CelRule(
    "!has(self.bigrams) || (has(self.architecture) && self.architecture == 'mlp')",
    "bigrams belongs to architecture mlp",
    "bigrams",
)
_EVEN_BILSTM = CelRule(
    "!has(self.architecture) || self.architecture != 'bilstm' || !has(self.hiddenSize) || self.hiddenSize % 2 == 0",
    "hiddenSize of a bilstm is both directions' together, so it must be even",
    "hiddenSize",
)


def heads_and_neurons(width: int, heads: int | None, neurons: int | None, same: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the heads and feed-forward neurons of a layer; what is left out follows from the width.

    `same`: the teacher's, of a student as wide as it is.
    """
    by_width = same or (max(1, width // HEAD_WIDTH), 4 * width)
    return heads or by_width[0], neurons or by_width[1]


def nearest_width(width: int, step: int) -> int:
    """Return the multiple of `step` that is nearest to a width; of two the smaller one."""
    below = width // step * step
    return below if below and width - below <= below + step - width else below + step


class Vocabulary(ApiModel):
    """Trims the student's vocabulary: most of a small student is embeddings."""

    max_size: Annotated[int | None, Field(ge=256, le=1_000_000)] = None
    """Keep at most this many tokens, the most frequent of the training data. Special tokens and single characters always stay,
    so how low it can be depends on the teacher's tokenizer: about 2,000 for MiniLM's. Less is refused once that is imported."""


class Convolution(ApiModel):
    """What a student of architecture `cnn` looks at, or the layers of a `residual` one in place of attention."""

    kernel_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=15), BeforeValidator(whole)], ...] | None, Field(min_length=1, max_length=8)
    ] = None
    """Of texts: how many neighbouring tokens are looked at together; several sizes share hiddenSize. Left out: 3, 4 and 5."""
    channels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096), BeforeValidator(whole)], ...] | None, Field(min_length=1, max_length=8)
    ] = None
    """Of images and time series: channels of each stage; every stage but the first halves height and width, or the length. Left
    out: 16, 32 and 64."""
    separable: bool | None = None
    """Over positions and over channels apart: fewer multiplications. Left out: false."""
    dilated: bool | None = None
    """Of texts: each layer looks twice as far as the one before. Left out: false."""


class Student(ApiModel):
    """The small model. Give a shape, or a model of its own (`uri`), or a Python factory."""

    architecture: Literal["encoder", "residual", "cnn", "bilstm", "mlp"] | None = None
    """What the shape is a shape of: `encoder` (a Hugging Face network of the teacher's family), `residual` (a weighted bag of
    token vectors plus a small encoder that corrects it, for sentence embeddings; it begins as a fair student and learns
    with little data; with `convolution` its encoder is convolutions), or none of a transformer's kind: `cnn` (convolutions, of
    texts, images and time series), `bilstm` (an LSTM from either end of a text), `mlp` (layers over the mean of a text's token
    vectors, or over the numbers of an image, a table's row or a window). Left out: `residual` for sentence embeddings with init
    `static`, `mlp` for tables and time series, else `encoder`."""
    hidden_layers: Annotated[int | None, Field(ge=1, le=96)] = None
    """Transformer layers; the teacher's when left out. Layers of a `cnn`, `bilstm` or `mlp`, and of a `residual` student with
    `convolution`: 1 when left out; of an image's or a time series' `cnn` convolutions in each stage."""
    hidden_size: Annotated[int | None, Field(ge=8, le=8192)] = None
    """Width; the teacher's when left out. Of a `cnn`, `bilstm` or `mlp`: 256 when left out; a `bilstm`'s is both directions'
    together."""
    intermediate_size: Annotated[int | None, Field(ge=8, le=65536)] = None
    """Width of the feed-forward layers. Left out: the teacher's at its width, else four times hiddenSize."""
    attention_heads: Annotated[int | None, Field(ge=1, le=256)] = None
    """Attention heads. Left out: the teacher's at its width, else hiddenSize / 32."""
    init: Literal["static", "svd", "layers", "random"] | None = None
    """Where its first weights come from: `static` (what the teacher says of every token alone, reduced by PCA), `svd`
    (the teacher's weights projected onto the largest singular directions of its embeddings), `layers` (a choice of the
    teacher's layers, needs its hiddenSize), `random`. Left out: `layers` at the teacher's width, else `static` for
    sentence embeddings and `svd` for other tasks. Of a `cnn`, `bilstm` or `mlp` only token vectors come from the teacher: `svd`
    (when left out) or `random`."""
    embedding_size: Annotated[int | None, Field(ge=8, le=8192)] = None
    """Width of the token vectors of a `cnn`, `bilstm` or `mlp`; 128, or the teacher's where those are narrower, when left out."""
    pooling: Literal["max", "mean"] | None = None
    """How a `cnn` or `bilstm` makes one vector of a text's many: the largest of each number (when left out), or the mean."""
    convolution: Convolution | None = None
    """What a `cnn` looks at. Makes the layers of a `residual` student convolutions instead of a transformer's."""
    bigrams: Annotated[int | None, Field(ge=256, le=1_000_000)] = None
    """Gives an `mlp` of texts vectors for pairs of neighbouring tokens too, in a table of this many, in which pairs may meet by
    chance. Left out: none, and word order says nothing."""
    vocabulary: Vocabulary | None = None
    """Trims the vocabulary; left out, the student keeps the teacher's."""
    uri: Uri | None = None
    """A model of its own as the student, instead of a shape."""
    factory: Factory | None = None
    """A Python function that builds the student, instead of a shape."""

    cel_rules = (
        _ONE_WAY,
        _WHOLE_HEADS,
        _LAYERS_KEEP_WIDTH,
        _RESIDUAL_STARTS_STATIC,
        _HEADS_OF_TRANSFORMERS,
        _SMALL_STARTS,
        _EMBEDDING_OF_SMALL,
        _POOLING_OF_STATES,
        _CONVOLUTION_OF_CNN,
        _NO_HEADS_IN_CONVOLUTIONS,
        _STAGES_OF_CNN,
        _DILATED_ENDS,
        _BIGRAMS_OF_MLP,
        _EVEN_BILSTM,
    )

    @model_validator(mode="after")
    def _one_way(self) -> Student:
        shape = (
            self.architecture,
            self.hidden_layers,
            self.hidden_size,
            self.intermediate_size,
            self.attention_heads,
            self.init,
            self.embedding_size,
            self.pooling,
            self.convolution,
            self.bigrams,
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
        self._kind_fits()
        return self

    def _kind_fits(self) -> None:
        small = self.architecture in SMALL
        if small and (self.attention_heads or self.intermediate_size):
            raise _HEADS_OF_TRANSFORMERS.broken(fix="leave them out: hiddenLayers and hiddenSize say the shape")
        if small and self.init not in {None, "svd", "random"}:
            raise _SMALL_STARTS.broken(fix="leave init out, or write init: random")
        if self.embedding_size is not None and not small:
            raise _EMBEDDING_OF_SMALL.broken(fix="leave embeddingSize out: a transformer's token vectors are as wide as it is")
        if self.pooling is not None and self.architecture not in {"cnn", "bilstm"}:
            raise _POOLING_OF_STATES.broken(fix="leave pooling out")
        if self.convolution is not None and self.architecture not in {"cnn", "residual"}:
            raise _CONVOLUTION_OF_CNN.broken(fix="write architecture: cnn or residual, or leave convolution out")
        if self.convolution is not None and (self.attention_heads or self.intermediate_size):
            raise _NO_HEADS_IN_CONVOLUTIONS.broken(fix="leave them out: hiddenLayers and hiddenSize say the shape")
        if self.convolution is not None and self.convolution.channels is not None and self.architecture != "cnn":
            raise _STAGES_OF_CNN.broken(fix="write hiddenSize and hiddenLayers instead")
        if self.convolution is not None and self.convolution.dilated and (self.hidden_layers or 0) > DOUBLED:
            raise _DILATED_ENDS.broken(allowed=f"at most {DOUBLED}", fix=f"hiddenLayers: {DOUBLED}, or leave dilated out")
        if self.bigrams is not None and self.architecture != "mlp":
            raise _BIGRAMS_OF_MLP.broken(fix="write architecture: mlp, or leave bigrams out")
        if self.architecture == "bilstm" and self.hidden_size and self.hidden_size % 2:
            raise _EVEN_BILSTM.broken(fix=f"hiddenSize: {self.hidden_size + 1}")
