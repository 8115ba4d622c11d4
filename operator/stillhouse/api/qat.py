"""INT8 that the student learns to live with."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.scalars import DecimalString

__all__ = ["Qat"]

_RATE_POSITIVE = CelRule("self.learningRate.matches('[1-9]')", "learningRate must be more than 0", "learningRate")


class Qat(ApiModel):
    """Quantization-aware training: once trained, the student goes on learning while its layers round as INT8 will.

    It serves with the scales that it learned in. Losses, batch size, frozen layers and data are the last stage's.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Passes over the data. Ranges follow the student in the first half of the steps, and stay in the second."""
    learning_rate: DecimalString = "0.0001"
    """Peak of the learning rate: low, because a trained student is only mended."""

    cel_rules = (_RATE_POSITIVE,)

    @model_validator(mode="after")
    def _learns(self) -> Qat:
        if not Decimal(self.learning_rate):
            raise _RATE_POSITIVE.broken(fix='write for example learningRate: "0.0001"')
        return self
