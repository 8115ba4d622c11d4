"""Where inputs are cut, and the shape of images and features: the parts of the configuration that every kind of model shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stillhouse.errors import SourceError
from stillhouse.inference.signature import FeatureSpec, ImageSpec
from stillhouse.passes.sources.architecture import own_max_length
from stillhouse.passes.sources.folder import SourceFolder

__all__ = ["LONGEST", "FeaturesConfig", "ImageConfig", "Part", "chosen_max_length", "feature_spec", "image_spec"]

LONGEST = 512
"""Texts are cut here, in tokens, unless source.maxLength says more."""


class Part(BaseModel):
    """Base of a part of a pass's configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageConfig(Part):
    """Shape and normalisation of image inputs."""

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: int = Field(ge=1)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class FeaturesConfig(Part):
    """Form of inputs that are plain numbers: `columns` of a table, or `length` and `channels` of a window."""

    columns: tuple[str, ...] | None = None
    length: int | None = Field(default=None, ge=1)
    channels: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_form(self) -> FeaturesConfig:
        if bool(self.columns) == (self.length is not None):
            raise ValueError("features are the columns of a table, or have a length")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row: [columns] or [length, channels]."""
        return (len(self.columns),) if self.columns else (self.length or 1, self.channels)


def chosen_max_length(wanted: int | None, folder: SourceFolder, model: Mapping[str, Any]) -> tuple[int, int]:
    """Return (tokens after which texts are cut, the published length); `model` is config.json, {} where there is none.

    Raises:
        SourceError: `wanted` is longer than the model's positions.
    """
    published, hard = own_max_length(folder, model)
    if wanted is not None and wanted > hard:
        raise SourceError(
            "the model has no positions for texts that long",
            field="source.maxLength",
            found=str(wanted),
            allowed=f"at most {hard}",
            fix=f"set source.maxLength to {hard} or less, or leave it out",
        )
    return wanted or min(published, LONGEST), published


def image_spec(image: ImageConfig | None) -> ImageSpec | None:
    """Return the signature's image part; missing means are 0, missing deviations 1."""
    if image is None:
        return None
    mean = image.mean or (0.0,) * image.channels
    return ImageSpec(image.height, image.width, image.channels, mean, image.std or (1.0,) * image.channels)


def feature_spec(features: FeaturesConfig | None) -> FeatureSpec | None:
    """Return the signature's features part; what the columns' means are nobody knows yet."""
    return None if features is None else FeatureSpec(features.shape, features.columns or ())
