"""Sizes of the networks that are not Hugging Face's: what `architecture.json` says of them. Data only, no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["FeatureShape", "ImageShape", "ResidualShape", "SmallShape", "TextShape"]


class ResidualShape(BaseModel):
    """The sizes of a `ResidualEncoder`; its token vectors are as wide as its output, `dimension`.

    With `kernel_sizes` its layers are convolutions (`separable`, `dilated`: see `TextCnn`), else attention and feed-forward.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: int = Field(ge=1)
    dimension: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=0)
    intermediate_size: int = Field(ge=0)
    max_length: int = Field(ge=1)
    kernel_sizes: tuple[int, ...] = ()
    separable: bool = False
    dilated: bool = False

    @model_validator(mode="after")
    def _fits(self) -> ResidualShape:
        if self.kernel_sizes:
            if self.heads or self.intermediate_size:
                raise ValueError("heads and intermediate_size belong to attention: kernel_sizes says convolutions")
            if len(self.kernel_sizes) > self.hidden_size:
                raise ValueError("more kernel_sizes than hidden_size has channels")
        elif not self.heads or not self.intermediate_size:
            raise ValueError("attention needs heads and an intermediate_size")
        elif self.hidden_size % self.heads:
            raise ValueError("hidden_size is not a multiple of heads")
        return self


class TextShape(BaseModel):
    """The sizes of a `TextCnn`, `BiLstm` or `TextMlp`; what belongs to another form has its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["cnn", "bilstm", "mlp"]
    vocabulary: int = Field(ge=1)
    embedding_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1)
    pooling: Literal["max", "mean"] = "max"
    kernel_sizes: tuple[int, ...] = ()
    separable: bool = False
    dilated: bool = False
    bigrams: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> TextShape:
        if self.form == "bilstm" and self.hidden_size % 2:
            raise ValueError("hidden_size of a bilstm is both directions' together: it must be even")
        if self.form == "cnn" and not 1 <= len(self.kernel_sizes) <= self.hidden_size:
            raise ValueError("a cnn needs kernel_sizes, at most hidden_size of them")
        return self


class ImageShape(BaseModel):
    """The sizes of an `ImageCnn` (`channels` of each stage, `layers` convolutions in each) or an `ImageMlp` (`hidden_size`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["image-cnn", "image-mlp"]
    image: tuple[int, int, int]
    layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    channels: tuple[int, ...] = ()
    separable: bool = False

    @model_validator(mode="after")
    def _fits(self) -> ImageShape:
        if self.form == "image-cnn" and (not self.channels or self.channels[-1] != self.hidden_size):
            raise ValueError("an image-cnn needs channels, and hidden_size is its last stage's")
        return self


class FeatureShape(BaseModel):
    """The sizes of a `FeatureNetwork`: `features` is a row's shape, [columns] or [length, channels]; see `ImageShape`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["features-mlp", "features-cnn"]
    features: tuple[int, ...] = Field(min_length=1, max_length=2)
    layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    channels: tuple[int, ...] = ()
    separable: bool = False

    @model_validator(mode="after")
    def _fits(self) -> FeatureShape:
        if self.form == "features-cnn" and len(self.features) != 2:
            raise ValueError("a features-cnn looks along a length, which a table's row has not")
        if self.form == "features-cnn" and (not self.channels or self.channels[-1] != self.hidden_size):
            raise ValueError("a features-cnn needs channels, and hidden_size is its last stage's")
        return self


SmallShape = Annotated[TextShape | ImageShape | FeatureShape, Field(discriminator="form")]
"""A network that is none of a teacher's family: its features, float32 [batch, hidden_size], go into one linear layer."""
