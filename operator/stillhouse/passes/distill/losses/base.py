"""What a loss is configured with. No torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stillhouse.api.loss import LossKind
from stillhouse.passes.distill.config import CamelConfig

__all__ = ["Course", "LossConfig"]


class Course(CamelConfig):
    """Where a value goes over the stage's steps: to `to`, along a line or half a cosine."""

    to: float = Field(ge=0)
    shape: Literal["linear", "cosine"] = "linear"


class LossConfig(CamelConfig):
    """One term. `temperature` left out: what `planning/manifest.py` says for the kind.

    `keys`: how many of the data's rows, drawn anew for every step, `similarity` and
    `contrastive-teacher` compare the batch with; 0: none.
    """

    kind: LossKind
    weight: float = Field(default=1.0, ge=0)
    distance: Literal["cosine", "mse"] = "cosine"
    temperature: float | None = Field(default=None, gt=0)
    alpha: float = Field(default=0.7, ge=0, le=1)
    layer: int | None = Field(default=None, ge=0)
    student_layer: int | None = Field(default=None, ge=1)
    keys: int = Field(default=0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(ge=0)]] | None = None
    weight_course: Course | None = None
    temperature_course: Course | None = None
