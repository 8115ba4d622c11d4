"""What the guard answers when it lets a request not through. A value and no exception: under attack this is the usual path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillhouse.errors import Problem

__all__ = ["Refusal", "invalid", "shown"]

LONGEST = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered.

    `status`: name of a gRPC status code. `retry_after`: seconds after which trying again may help; None where the same request
    will be refused again.
    """

    status: Literal["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNAUTHENTICATED"]
    problem: Problem
    retry_after: float | None = None

    def __str__(self) -> str:
        """Return one line for the status' message."""
        problem = self.problem
        text = f"{problem.field}: {problem.message}" if problem.field else problem.message
        parts = [f"{name} {value}" for name, value in (("found", problem.found), ("allowed", problem.allowed)) if value]
        if self.retry_after is not None:
            parts.append(f"try again in {self.retry_after:.3g} s")
        return f"{text} ({'; '.join(parts)})" if parts else text


def invalid(field: str, message: str, found: object = "", allowed: object = "") -> Refusal:
    """Return the refusal of a request that is wrong in itself."""
    return Refusal("INVALID_ARGUMENT", Problem(message, field=field, found=str(found), allowed=str(allowed)))


def shown(text: str) -> str:
    """Return what a client sent so that it can stand in a message or a log: short, on one line, nothing that moves a cursor."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return ascii(cut) if not cut.isprintable() else f"'{cut}'"
