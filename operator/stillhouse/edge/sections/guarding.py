"""Who may ask, what requests may hold, and where they are recorded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stillhouse.edge.sections.base import File, Part

__all__ = ["Audit", "Clients", "Guard", "Pattern"]


class Clients(Part):
    """Who may ask: a folder of tokens; inferences a second, at once, under way."""

    tokens: File | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None


class Pattern(Part):
    """What is refused or masked in texts."""

    name: str
    regex: str | None = None
    named: str | None = None
    action: Literal["refuse", "mask"] = "refuse"


class Audit(Part):
    """The audit log; seconds and bytes."""

    folder: File
    mode: Literal["required", "best-effort"] = "best-effort"
    key: File | None = None
    raw: bool = False
    keep: Annotated[float, Field(gt=0)] = 90 * 86400.0
    maxSize: Annotated[int, Field(ge=1)] = 1 << 30  # noqa: N815


class Guard(Part):
    """What requests may hold."""

    maxRows: Annotated[int, Field(ge=1)] = 1024  # noqa: N815
    maxTextLength: Annotated[int, Field(ge=1)] = 100_000  # noqa: N815
    maxMessageSize: Annotated[int, Field(ge=1024)] = 64 << 20  # noqa: N815
    patterns: tuple[Pattern, ...] = ()
    audit: Audit | None = None
