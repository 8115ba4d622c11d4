"""One stage of training, as the resource names it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.loss import LAYER_LOSSES, Loss, told
from stillhouse.api.prune import Prune
from stillhouse.api.scalars import DecimalString, ModelName, Percent

__all__ = ["EarlyStopping", "Freeze", "Stage"]

_RATE_POSITIVE = CelRule("self.learningRate.matches('[1-9]')", "learningRate must be more than 0", "learningRate")
_TOKEN_RATE_POSITIVE = CelRule(
    "!has(self.embeddingLearningRate) || self.embeddingLearningRate.matches('[1-9]')",
    "embeddingLearningRate must be more than 0",
    "embeddingLearningRate",
)
_NO_RATE_OF_THE_FROZEN = CelRule(
    "!has(self.embeddingLearningRate) || !has(self.freeze) || !self.freeze.embeddings",
    "embeddings that are frozen have no learning rate: leave embeddingLearningRate out",
    "embeddingLearningRate",
)
_PROGRESS_NEEDS_LAYERS = CelRule(
    f"!has(self.progressive) || self.losses.exists(l, l.kind in {list(LAYER_LOSSES)})",
    f"progressive needs losses that speak of layers: {told(LAYER_LOSSES)}",
    "progressive",
)
_SOME_WEIGHT = CelRule(
    "self.losses.exists(l, l.weight.matches('[1-9]') || has(l.weightSchedule) && l.weightSchedule.to.matches('[1-9]'))",
    "every loss has weight 0: nothing would be learned",
    "losses",
)
_THREE_ROWS: Final = ("relational-distance", "relational-angle", "contrastive")
"""Losses that are 0 of two rows: of one distance its share is 1, one angle needs three, and a pair's other row has no rivals."""
_ROWS_TO_COMPARE = CelRule(
    f"self.losses.all(l, self.batchSize >= (l.kind in {list(_THREE_ROWS)}"
    " || l.kind == 'similarity' && !has(l.keys) && l.distance == 'cosine' ? 3"
    " : l.kind == 'similarity' || l.kind == 'contrastive-teacher' && !has(l.keys) ? 2 : 1))",
    f"so few rows teach nothing, the loss is always 0: similarity, {told(_THREE_ROWS)} need batchSize 3 (similarity with keys or"
    " distance mse 2), contrastive-teacher without keys 2",
    "batchSize",
)
_FREEZE_SOMETHING = CelRule("self.embeddings || has(self.layers)", "freeze names what is held still: embeddings, layers or both")


class Freeze(ApiModel):
    """What of the student is held still while the rest learns."""

    embeddings: bool = False
    """The embeddings: of tokens and positions, of an image's patches."""
    layers: Annotated[int | None, Field(ge=1, le=96)] = None
    """So many layers, the lowest."""

    cel_rules = (_FREEZE_SOMETHING,)

    @model_validator(mode="after")
    def _something(self) -> Freeze:
        if not self.embeddings and self.layers is None:
            raise _FREEZE_SOMETHING.broken()
        return self


class EarlyStopping(ApiModel):
    """When a stage ends before its epochs are over."""

    patience: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Epochs in a row without a gain, after which the stage ends."""
    min_gain: DecimalString = "0"
    """What validation must be better by than in the best epoch so far, to count as a gain."""


class Stage(ApiModel):
    """One stage of training; the next one starts from its result (soft targets first, hard labels after)."""

    name: ModelName | None = None
    """What the stage is called in plans and progress; `stage-1` and so on when left out."""
    losses: Annotated[tuple[Loss, ...], Field(min_length=1, max_length=8)]
    """The terms of its objective."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Passes over the data."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    """Rows per step."""
    learning_rate: DecimalString = "0.001"
    """Peak of the learning rate."""
    embedding_learning_rate: DecimalString | None = None
    """Peak of the token vectors' own learning rate; learningRate when left out. A token is in few steps, a layer in all."""
    warmup: Percent = "5%"
    """Share of the steps in which the rate climbs; afterwards it falls as a cosine."""
    weight_decay: DecimalString = "0.01"
    """Decoupled weight decay (AdamW)."""
    freeze: Freeze | None = None
    """What of the student is held still in this stage."""
    progressive: Literal["alone", "stacked"] | None = None
    """Layer by layer, from low to high: the steps are shared out evenly among the student's layers that losses speak of (`hidden`
    and the like), and then the other losses. `alone`: each in its own turn only; `stacked`: also in the turns after (Aguilar et
    al. 2020)."""
    early_stopping: EarlyStopping | None = None
    """End the stage when validation gains no more; its result is then the best epoch instead of the last."""
    prune: Prune | None = None
    """Take something out of the student meanwhile."""
    mixed_precision: Literal["auto", "bf16"] | None = None
    """Reckon the student's matrix products in bfloat16, its weights stay float32 (Micikevicius et al. 2018); all in float32 when
    left out. `auto`: where the hardware has it, GPUs and processors with AMX or AVX512-BF16; on GPUs it makes students of about
    BERT's size and larger faster, smaller ones not. Not for `compress.qat`'s training."""

    cel_rules = (
        _RATE_POSITIVE,
        _TOKEN_RATE_POSITIVE,
        _NO_RATE_OF_THE_FROZEN,
        _PROGRESS_NEEDS_LAYERS,
        _SOME_WEIGHT,
        _ROWS_TO_COMPARE,
    )

    @model_validator(mode="after")
    def _learns(self) -> Stage:
        if not Decimal(self.learning_rate):
            raise _RATE_POSITIVE.broken()
        if self.embedding_learning_rate is not None and not Decimal(self.embedding_learning_rate):
            raise _TOKEN_RATE_POSITIVE.broken()
        if self.embedding_learning_rate is not None and self.freeze is not None and self.freeze.embeddings:
            raise _NO_RATE_OF_THE_FROZEN.broken()
        if self.progressive is not None and not any(loss.kind in LAYER_LOSSES for loss in self.losses):
            raise _PROGRESS_NEEDS_LAYERS.broken()
        if not any(Decimal(loss.weight) or _ends_above_zero(loss) for loss in self.losses):
            raise _SOME_WEIGHT.broken(fix='give one of them a weight, such as weight: "1"')
        needed, kind = max((_rows_needed(loss), loss.kind) for loss in self.losses)
        if self.batch_size < needed:
            fix = f"batchSize: {needed} at least for loss {kind}; more rows teach more, 128 when left out"
            raise _ROWS_TO_COMPARE.broken(allowed=f"at least {needed}", fix=fix)
        return self


def _ends_above_zero(loss: Loss) -> bool:
    return loss.weight_schedule is not None and bool(Decimal(loss.weight_schedule.to))


def _rows_needed(loss: Loss) -> int:
    """Return how many rows of a batch a loss needs to be more than 0."""
    if loss.kind in _THREE_ROWS or (loss.kind == "similarity" and loss.keys is None and loss.distance == "cosine"):
        return 3
    return 2 if loss.kind == "similarity" or (loss.kind == "contrastive-teacher" and loss.keys is None) else 1
