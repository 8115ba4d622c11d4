"""Sizes of the networks that are not Hugging Face's: what `architecture.json` says of them. Data only, no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ResidualShape"]


class ResidualShape(BaseModel):
    """The sizes of a `ResidualEncoder`; its token vectors are as wide as its output, `dimension`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: int = Field(ge=1)
    dimension: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    max_length: int = Field(ge=1)

    @model_validator(mode="after")
    def _whole_heads(self) -> ResidualShape:
        if self.hidden_size % self.heads:
            raise ValueError("hidden_size is not a multiple of heads")
        return self
