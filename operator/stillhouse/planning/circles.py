"""Gateways that ask each other: a request would go round for ever. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

__all__ = ["STEPS_MODEL", "asked_of", "circle", "field_of", "told"]

STEPS_MODEL, LARGER_MODEL = "spec.edge.preprocess.model", "spec.edge.cascade.larger.model"


def asked_of(spec: object) -> str:
    """Return the model that a spec's gateway asks by its name alone, as somebody wrote it; "" where it asks none, or an address.

    Steps ask the model that they are before, a cascade its larger one (the one between has no gateway).
    """
    edge = _within(spec, "edge")
    for asked in (_within(edge, "preprocess"), _within(_within(edge, "cascade"), "larger")):
        name = _within(asked, "model")
        if isinstance(name, str) and not _within(asked, "address"):
            return name
    return ""


def field_of(spec: object) -> str:
    """Return the field that `asked_of` reads."""
    return STEPS_MODEL if _within(_within(spec, "edge"), "preprocess") else LARGER_MODEL


def circle(name: str, asked: Callable[[str], str]) -> tuple[str, ...]:
    """Return the models of the circle that begins and ends with `name`, () where there is none. `asked`: whom a model asks."""
    found = [name]
    while (following := asked(found[-1])) and following not in found:
        found.append(following)
    return (*found, name) if following == name else ()


def told(round_trip: tuple[str, ...]) -> str:
    """Return `a asks b, b asks a`."""
    return ", ".join(f"{one} asks {other}" for one, other in pairwise(round_trip))


def _within(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, Mapping) else None
