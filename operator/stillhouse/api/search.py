"""How the student's shape is looked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.limits import LIMIT_RULES, refuse_nothing
from stillhouse.api.scalars import Duration, Percent, Quantity, whole

__all__ = ["Search"]

Layers = Annotated[int, BeforeValidator(whole), Field(ge=1, le=96)]
Width = Annotated[int, BeforeValidator(whole), Field(ge=8, le=8192)]
Heads = Annotated[int, BeforeValidator(whole), Field(ge=1, le=256)]
Tokens = Annotated[int, BeforeValidator(whole), Field(ge=256, le=1_000_000)]

_SOMETHING = CelRule(
    "has(self.hiddenLayers) || has(self.hiddenSize) || has(self.attentionHeads) || has(self.vocabulary)",
    "a search needs something to search among: hiddenLayers, hiddenSize, attentionHeads or vocabulary",
)


class Search(ApiModel):
    """Tries shapes with short trainings on the student's data, measures each as it would be served, and takes one.

    Judged on `distill.validation`, never on the gate's rows. What is searched is left out of `student`.
    """

    hidden_layers: Annotated[tuple[Layers, ...] | None, Field(min_length=1, max_length=16)] = None
    """Numbers of layers to choose among."""
    hidden_size: Annotated[tuple[Width, ...] | None, Field(min_length=1, max_length=16)] = None
    """Widths to choose among; `student.init` is then `svd` when left out."""
    attention_heads: Annotated[tuple[Heads, ...] | None, Field(min_length=1, max_length=16)] = None
    """Numbers of heads to choose among; every width must be a multiple of each."""
    vocabulary: Annotated[tuple[Tokens, ...] | None, Field(min_length=1, max_length=16)] = None
    """Sizes of the vocabulary to choose among."""
    max_size: Quantity | None = None
    """Largest size of the model as it would be served (INT8, or FP32 where compress.precision says so)."""
    max_latency_p50: Annotated[Duration | None, Field(alias="maxLatencyP50")] = None
    """Longest median time of a text in ONNX Runtime, tokenising included."""
    trials: Annotated[int, Field(ge=1, le=500)] = 12
    """Shapes that are tried at most."""
    patience: Annotated[int, Field(ge=1, le=500)] = 6
    """Shapes in a row that bring nothing, after which it ends: no change of the front within the limits or, before anything keeps
    them, nothing nearer to them."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    """Epochs of the first stage that a shape is trained for."""
    tolerance: Percent = "1%"
    """How much of the best quality may be given for speed: the fastest shape within it is taken."""

    cel_rules = (_SOMETHING, *LIMIT_RULES)

    @model_validator(mode="after")
    def _something(self) -> Search:
        if not any((self.hidden_layers, self.hidden_size, self.attention_heads, self.vocabulary)):
            raise _SOMETHING.broken(fix="hiddenLayers: [1, 2, 3]")
        refuse_nothing(self.max_size, self.max_latency_p50)
        return self
