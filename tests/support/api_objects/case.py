"""A case: a resource with some fields changed, and how fields are changed."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.api_objects.resources import COMPLETE, MINIMAL, Object

__all__ = ["GONE", "Case", "bad", "edited", "leaves"]

GONE = object()
"""As the value of an edit: the field is removed."""


@dataclass(frozen=True)
class Case:
    """A complete object with some fields changed.

    `field` is the path that a refusal must name, `None` where the object is valid; `says` is part of its message on both
    sides, where both say the same.
    """

    name: str
    base: str
    edits: Mapping[str, Any] = field(default_factory=dict)
    field: str | None = None
    says: str = ""
    minimal: bool = False

    @property
    def object(self) -> Object:
        """The object itself, a new copy each time."""
        return edited((MINIMAL if self.minimal else COMPLETE)[self.base], self.edits)


def edited(base: Object, edits: Mapping[str, Any]) -> Object:
    """A copy with fields changed, by path such as `spec.gate.metrics[0].min`; `GONE` removes one."""
    result = copy.deepcopy(base)
    for path, value in edits.items():
        *way, last = _parts(path)
        place: Any = result
        for part in way:
            place = place[part] if isinstance(part, int) else place.setdefault(part, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return result


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every path below a value, with what stands there: containers as well as what they hold."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{position}]")


def _parts(path: str) -> list[str | int]:
    return [int(index) if index else name for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]


def bad(name: str, base: str, field: str, value: Any, says: str = "", **more: Any) -> Case:
    """One changed field, which is also the one to name."""
    return Case(name, base, {field: value}, field, says, **more)
