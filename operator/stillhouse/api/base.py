"""Base of every API model: camelCase outside, no unknown fields, cross-field rules stated once as CEL."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

__all__ = [
    "RESERVED_KEY",
    "ApiModel",
    "CelRule",
    "Mistake",
    "NotAvailableHere",
    "Reserved",
    "ReservedField",
    "models_of",
    "without_nulls",
]

RESERVED_KEY = "x-stillhouse-reserved"
"""Key of the JSON schema of a reserved field; its value says what the field will be."""


class Mistake(ValueError):
    """What a validator found wrong.

    `field` is the path below the model that is validated (empty: the model itself), `allowed` what may stand there, `fix`
    what mends it.
    """

    def __init__(self, message: str, *, field: str = "", allowed: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.allowed = allowed
        self.fix = fix


class NotAvailableHere(Mistake):
    """A name or value was used that a later version implements."""


@dataclass(frozen=True, slots=True)
class CelRule:
    """A cross-field rule of the API server (`x-kubernetes-validations`).

    The Python validators of the same model check the same thing with the same message; an integration test feeds
    both with the same objects. `field` is the path, below the model, of the field that the message speaks of.
    """

    rule: str
    message: str
    field: str = ""

    def broken(self, fix: str = "", allowed: str = "") -> Mistake:
        """Return the error that a Python validator raises when the rule does not hold."""
        kind = NotAvailableHere if self.message.startswith("not available") else Mistake
        return kind(self.message, field=self.field, allowed=allowed, fix=fix)


class ApiModel(BaseModel):
    """Base of every part of a resource. Reads values as the API server does, so that both give the same verdict."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        validate_by_alias=True,
        validate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=False,
    )
    cel_rules: ClassVar[tuple[CelRule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, data: Any) -> Any:
        """Drop fields that are null: Kubernetes prunes them, then sets their default."""
        if not isinstance(data, dict) or None not in data.values():
            return data
        known = cls.model_fields.keys() | {info.alias for info in cls.model_fields.values()}
        return {key: value for key, value in data.items() if value is not None or key not in known}

    @field_validator("*", mode="before")
    @classmethod
    def _no_quoted_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse text and booleans where a whole number belongs, which pydantic would convert, and the other way round."""
        kinds = set(_parts_of(cls.model_fields[info.field_name or ""].annotation))
        whole = int in kinds or any(
            isinstance(each, int) for kind in kinds if get_origin(kind) is Literal for each in get_args(kind)
        )
        if whole and isinstance(value, str | bool):
            digits = value.isascii() and value.isdecimal() if isinstance(value, str) else False
            raise Mistake("a whole number belongs here, without quotes", fix=f"write {value}" if digits else "")
        if bool in kinds and not isinstance(value, bool):
            raise Mistake("true or false belongs here, without quotes")
        return value


@dataclass(frozen=True, slots=True)
class ReservedField:
    """Marks a field whose name is settled but which a later version implements.

    `what` says what it will be, `kind` its JSON type: the API server can only refuse a field by rule whose type it knows.
    """

    what: str
    kind: Literal["object", "array", "string", "integer"] = "object"

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "type": self.kind, RESERVED_KEY: self.what}


def _refuse(value: Any) -> Any:
    if value is not None:
        raise NotAvailableHere("not available in this version")
    return value


Reserved = BeforeValidator(_refuse)
"""Put into `Annotated[Any, Reserved, ReservedField("…")] = None` for a name that is kept free."""


def without_nulls(value: Any) -> Any:
    """Return a map without names whose value is null, as the API server stores it; anything else as it is."""
    return {name: inner for name, inner in value.items() if inner is not None} if isinstance(value, dict) else value


def models_of(annotation: Any) -> Iterator[type[ApiModel]]:
    """Yield the models inside an annotation such as `tuple[Stage, ...] | None`."""
    for part in _parts_of(annotation, inside=True):
        if isinstance(part, type) and issubclass(part, ApiModel):
            yield part


def _parts_of(annotation: Any, *, inside: bool = False) -> Iterator[Any]:
    """Yield the alternatives of a union without their metadata; with `inside`, also what containers hold."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts_of(part, inside=inside)
    elif hasattr(annotation, "__metadata__"):
        yield from _parts_of(get_args(annotation)[0], inside=inside)
    elif inside and origin in (tuple, list, dict):
        for part in get_args(annotation):
            yield from _parts_of(part, inside=inside)
    else:
        yield annotation
