"""What every section of the configuration file is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Part", "Share"]

Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """A part of the file: nothing unknown, nothing infinite, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
