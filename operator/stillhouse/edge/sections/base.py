"""What every section of the configuration file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["File", "Part", "Share"]

Share = Annotated[float, Field(ge=0, le=1)]


def _nameable(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("no file has a NUL in its name")
    return path


File = Annotated[Path, AfterValidator(_nameable)]
"""Where something lies."""


class Part(BaseModel):
    """A part of the file: nothing unknown, nothing infinite, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
