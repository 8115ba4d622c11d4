"""Who called, in which trace: `traceparent` and `tracestate` (W3C Trace Context, level 1). What is malformed is no context."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stillhouse.edge.status import Metadata

__all__ = ["Context", "carried", "context_of", "passed_on"]

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_NAMES = frozenset({"traceparent", "tracestate"})
_MEMBERS, _SAMPLED = 32, 1


@dataclass(frozen=True, slots=True)
class Context:
    """A span that others may hang on: 32 and 16 hexadecimal digits, whether it is recorded, and what vendors add to it."""

    trace: str
    span: str
    sampled: bool
    state: str = ""

    def metadata(self) -> Metadata:
        """Return it as metadata."""
        parent = ("traceparent", f"00-{self.trace}-{self.span}-{int(self.sampled):02x}")
        return (parent, ("tracestate", self.state)) if self.state else (parent,)


def context_of(metadata: Metadata) -> Context | None:
    """Return the context that a call came with, None where there is none, or one that is malformed, or several."""
    parents = [value for name, value in metadata if name == "traceparent"]
    if len(parents) != 1 or not isinstance(parents[0], str):
        return None
    match = _PARENT.fullmatch(parents[0].strip())
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None) or not int(trace, 16) or not int(span, 16):
        return None
    return Context(trace, span, bool(int(flags, 16) & _SAMPLED), _state([v for name, v in metadata if name == "tracestate"]))


def _state(values: list[str | bytes]) -> str:
    """Return the joined state; a malformed one is left out, and its trace goes on without."""
    members = [each.strip(" \t") for value in values if isinstance(value, str) for each in value.split(",")]
    members = [each for each in members if each]
    if len(members) > _MEMBERS or not all(_MEMBER.fullmatch(each) for each in members):
        return ""
    return ",".join(members)


def passed_on(metadata: Metadata) -> Metadata:
    """Return metadata as somebody passes it on who takes no part in the trace: a sound context unchanged, a malformed one not."""
    if not any(name in _NAMES for name, _ in metadata):
        return metadata
    context = context_of(metadata)
    if context is None:
        return tuple(each for each in metadata if each[0] not in _NAMES)
    return metadata if context.state else tuple(each for each in metadata if each[0] != "tracestate")


def carried(metadata: Metadata, context: Context) -> Metadata:
    """Return metadata with this context in the place of the one that it came with."""
    return (*(each for each in metadata if each[0] not in _NAMES), *context.metadata())
