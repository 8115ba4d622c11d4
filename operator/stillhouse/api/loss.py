"""One term of the training objective, as the resource names it.

One flat model and rules: a structural schema knows no unions told apart by a field.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from stillhouse.api.base import ApiModel, CelRule, without_nulls
from stillhouse.api.scalars import DecimalString

__all__ = [
    "CLASS_LOSSES",
    "EMBEDDING_LOSSES",
    "LAYER_LOSSES",
    "RELATION_LOSSES",
    "TEMPERATURE_LOSSES",
    "WITH_LABELS",
    "ClassWeights",
    "LayerPair",
    "Loss",
    "LossKind",
    "Schedule",
    "told",
]

LossKind = Literal[
    "embedding",
    "similarity",
    "relational-distance",
    "relational-angle",
    "contrastive",
    "contrastive-teacher",
    "logits",
    "reverse-kl",
    "jsd",
    "tvd",
    "hard",
    "hidden",
    "pooled",
    "hidden-tokens",
    "attention-transfer",
    "attention-relation",
    "value-relation",
]
"""Every kind there is; `planning/manifest.py` says of each where it lives."""
EMBEDDING_LOSSES: Final = (
    "embedding",
    "similarity",
    "relational-distance",
    "relational-angle",
    "contrastive",
    "contrastive-teacher",
)
"""Terms of task sentence-embedding; `hidden` belongs to every task."""
CLASS_LOSSES: Final = ("logits", "reverse-kl", "jsd", "tvd", "hard")
"""Terms of the classification tasks."""
RELATION_LOSSES: Final = ("attention-relation", "value-relation")
"""Losses that look at attention's queries, keys and values."""
LAYER_LOSSES: Final = ("hidden", "hidden-tokens", "attention-transfer", *RELATION_LOSSES)
"""Terms that speak of a layer of the student's."""
TEMPERATURE_LOSSES: Final = ("logits", "reverse-kl", "jsd", "tvd", "similarity", "contrastive", "contrastive-teacher")
"""Terms that take a temperature."""
_WITH_KEYS: Final = ("similarity", "contrastive-teacher")
WITH_LABELS: Final = ("logits", "hard")
"""Terms that read labels."""


def told(kinds: Sequence[str]) -> str:
    """Return the kinds as a sentence names them: `a, b and c`."""
    return f"{', '.join(kinds[:-1])} and {kinds[-1]}"


_TEMPERATURE_BELONGS = CelRule(
    f"!has(self.temperature) || self.kind in {list(TEMPERATURE_LOSSES)}",
    f"temperature belongs to losses {told(TEMPERATURE_LOSSES)} only",
    "temperature",
)
_TEMPERATURE_POSITIVE = CelRule(
    "!has(self.temperature) || self.temperature.matches('[1-9]')", "temperature must be more than 0", "temperature"
)
_ALPHA_IS_A_SHARE = CelRule("double(self.alpha) <= 1.0", "alpha is a share: at most 1", "alpha")
_LAYER_BELONGS = CelRule(
    f"!has(self.layer) || self.kind in {list(LAYER_LOSSES)}", f"layer belongs to losses {told(LAYER_LOSSES)} only", "layer"
)
_LAYERS_BELONG = CelRule(
    f"!has(self.layers) || self.kind in {list(LAYER_LOSSES)}",
    f"layers belongs to losses {told(LAYER_LOSSES)} only",
    "layers",
)
_ONE_LAYER_OR_PAIRS = CelRule("!has(self.layer) || !has(self.layers)", "give layer, or layers: only one of them", "layers")
_KEYS_BELONG = CelRule(
    f"!has(self.keys) || self.kind in {list(_WITH_KEYS)} && (!has(self.distance) || self.distance == 'cosine')",
    f"keys belongs to losses {told(_WITH_KEYS)} with distance cosine",
    "keys",
)
_SMOOTHING_BELONGS = CelRule(
    f"!has(self.labelSmoothing) || self.kind in {list(WITH_LABELS)}",
    f"labelSmoothing belongs to losses {told(WITH_LABELS)} only",
    "labelSmoothing",
)
_SMOOTHING_IS_A_SHARE = CelRule(
    "!has(self.labelSmoothing) || double(self.labelSmoothing) < 1.0", "labelSmoothing is a share: less than 1", "labelSmoothing"
)
_WEIGHTS_BELONG = CelRule(
    f"!has(self.classWeights) || self.kind in {list(WITH_LABELS)}",
    f"classWeights belongs to losses {told(WITH_LABELS)} only",
    "classWeights",
)
_BALANCED_OR_GIVEN = CelRule(
    "(has(self.balanced) && self.balanced) != has(self.byLabel)", "give balanced: true, or byLabel: only one of them", "byLabel"
)
_SCHEDULE_OF_TEMPERATURE = CelRule(
    f"!has(self.temperatureSchedule) || self.kind in {list(TEMPERATURE_LOSSES)}",
    f"temperatureSchedule belongs to losses {told(TEMPERATURE_LOSSES)} only",
    "temperatureSchedule",
)
_COLDEST_POSITIVE = CelRule(
    "!has(self.temperatureSchedule) || self.temperatureSchedule.to.matches('[1-9]')",
    "a temperature goes to more than 0",
    "temperatureSchedule.to",
)


class Schedule(ApiModel):
    """Where a value goes from what it is, over a stage's steps."""

    to: DecimalString
    """What it is in the last step."""
    shape: Literal["linear", "cosine"] = "linear"
    """Along a line, or half a cosine: slow, fast, slow."""


class LayerPair(ApiModel):
    """A layer of the teacher's and the student's that learns from it, both from 1."""

    teacher: Annotated[int, Field(ge=1, le=96)]
    """The teacher's layer."""
    student: Annotated[int | None, Field(ge=1, le=96)] = None
    """The student's layer; left out: the one at the same relative depth."""


class ClassWeights(ApiModel):
    """How much the rows of each label count: as much as they are rare, or as given."""

    balanced: bool | None = None
    """Rows of a label count rows / (labels · rows of that label): all labels alike, 1 on average."""
    by_label: Annotated[dict[str, DecimalString] | None, Field(min_length=1, max_length=4096), BeforeValidator(without_nulls)] = (
        None
    )
    """What a row of a label counts; 1 for labels that are not named."""

    cel_rules = (_BALANCED_OR_GIVEN,)

    @model_validator(mode="after")
    def _one_way(self) -> ClassWeights:
        if bool(self.balanced) == (self.by_label is not None):
            raise _BALANCED_OR_GIVEN.broken()
        return self


class Loss(ApiModel):
    """One term of the training objective."""

    kind: LossKind
    """`embedding`: distance to the teacher's embedding. `similarity`: the teacher's similarities inside the batch.
    `relational-distance`, `relational-angle`: the distances inside the batch, up to scale, and its angles (Park et al. 2019).
    `contrastive`: rows of one group (`data.columns.group`; a query and its document) nearer to each other than to the
    rest of the batch. `contrastive-teacher`: each row nearer to the teacher's embedding of itself than to those of the others.
    `logits`: α·T²·KL(teacher‖student) + (1−α)·cross-entropy (Hinton et al. 2015). `reverse-kl`: T²·KL(student‖teacher).
    `jsd`: T²·Jensen-Shannon divergence. `tvd`: T·total variation distance; these three have no part of the labels: put `hard`
    beside them. `hard`: cross-entropy with the labels alone. `hidden`: hidden states, averaged over a text,
    through a learned projection. `pooled`: what the last linear layer is given, through a learned projection, for networks of
    unlike kinds. The others look at every token, so that the teacher reads along and has to have the student's tokenizer.
    `hidden-tokens`: hidden states through a learned projection (Jiao et al. 2020). `attention-transfer`: where a layer
    is active (Zagoruyko & Komodakis 2017). `attention-relation`, `value-relation`: which tokens attend to which, and whose values
    are alike (Wang et al. 2020, 2021)."""
    weight: DecimalString = "1"
    """Factor of this term."""
    distance: Literal["cosine", "mse"] = "cosine"
    """Distance of `embedding`, `similarity`, `hidden`, `hidden-tokens` and `pooled`."""
    temperature: DecimalString | None = None
    """T of `logits`, `reverse-kl`, `jsd` and `tvd` (3 when left out), of `similarity`, `contrastive` and
    `contrastive-teacher` (0.05 when left out)."""
    alpha: DecimalString = "0.7"
    """Share of the soft targets in `logits`; the rest goes to the labels."""
    layer: Annotated[int | None, Field(ge=1, le=96)] = None
    """Teacher layer of losses that speak of one; the last one when left out."""
    layers: Annotated[tuple[LayerPair, ...] | None, Field(min_length=1, max_length=32)] = None
    """Several pairs of layers, which share the weight evenly, instead of `layer`."""
    keys: Annotated[int | None, Field(ge=16, le=65536)] = None
    """Rows of the data, drawn anew for every step, with whose teacher embeddings `similarity` and `contrastive-teacher`
    compare the batch; left out: only with the batch's own rows, which are of like lengths."""
    label_smoothing: DecimalString | None = None
    """Share of the label's 1 that cross-entropy spreads evenly over all labels, of `hard` and of the labels' part of `logits`."""
    class_weights: ClassWeights | None = None
    """What rows of each label count in cross-entropy, of `hard` and of the labels' part of `logits`; left out: all the same."""
    weight_schedule: Schedule | None = None
    """Where `weight` goes over the stage's steps; left out: it stays."""
    temperature_schedule: Schedule | None = None
    """Where `temperature` goes over the stage's steps; left out: it stays."""

    cel_rules = (
        _TEMPERATURE_BELONGS,
        _TEMPERATURE_POSITIVE,
        _ALPHA_IS_A_SHARE,
        _LAYER_BELONGS,
        _LAYERS_BELONG,
        _ONE_LAYER_OR_PAIRS,
        _KEYS_BELONG,
        _SMOOTHING_BELONGS,
        _SMOOTHING_IS_A_SHARE,
        _WEIGHTS_BELONG,
        _SCHEDULE_OF_TEMPERATURE,
        _COLDEST_POSITIVE,
    )

    @model_validator(mode="after")
    def _parts_fit_kind(self) -> Loss:
        if self.temperature is not None and self.kind not in TEMPERATURE_LOSSES:
            raise _TEMPERATURE_BELONGS.broken()
        if self.temperature is not None and not Decimal(self.temperature):
            raise _TEMPERATURE_POSITIVE.broken()
        if Decimal(self.alpha) > 1:
            raise _ALPHA_IS_A_SHARE.broken()
        if self.layer is not None and self.kind not in LAYER_LOSSES:
            raise _LAYER_BELONGS.broken()
        if self.layers is not None and self.kind not in LAYER_LOSSES:
            raise _LAYERS_BELONG.broken()
        if self.layer is not None and self.layers is not None:
            raise _ONE_LAYER_OR_PAIRS.broken()
        if self.keys is not None and (self.kind not in _WITH_KEYS or self.distance != "cosine"):
            raise _KEYS_BELONG.broken()
        if self.temperature_schedule is not None and self.kind not in TEMPERATURE_LOSSES:
            raise _SCHEDULE_OF_TEMPERATURE.broken()
        if self.temperature_schedule is not None and not Decimal(self.temperature_schedule.to):
            raise _COLDEST_POSITIVE.broken()
        self._labels_fit()
        return self

    def _labels_fit(self) -> None:
        labels = self.kind in WITH_LABELS
        if self.label_smoothing is not None and not labels:
            raise _SMOOTHING_BELONGS.broken()
        if self.label_smoothing is not None and Decimal(self.label_smoothing) >= 1:
            raise _SMOOTHING_IS_A_SHARE.broken()
        if self.class_weights is not None and not labels:
            raise _WEIGHTS_BELONG.broken()
