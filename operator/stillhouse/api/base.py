"""Base of every API model: camelCase outside, no unknown fields, cross-field rules stated once as CEL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

__all__ = ["ApiModel", "CelRule", "Reserved", "ReservedField"]


@dataclass(frozen=True, slots=True)
class CelRule:
    """A cross-field rule of the API server (`x-kubernetes-validations`).

    The Python validators of the same model check the same thing with the same message; an integration test feeds
    both with the same objects.
    """

    rule: str
    message: str


class ApiModel(BaseModel):
    """Base of every part of a resource."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=False,
    )
    cel_rules: ClassVar[tuple[CelRule, ...]] = ()


@dataclass(frozen=True, slots=True)
class ReservedField:
    """Marks a field whose name is settled but which a later version implements."""

    what: str


class NotAvailableHere(ValueError):
    """A reserved field was used."""


def _refuse(value: Any) -> Any:
    if value is not None:
        raise NotAvailableHere("not available in this version")
    return value


Reserved = BeforeValidator(_refuse)
"""Put into `Annotated[Any, Reserved, ReservedField("…")] = None` for a name that is kept free."""
