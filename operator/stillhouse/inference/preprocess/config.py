"""Frozen dataclasses from JSON data (camelCase), with the field's name in every refusal. pydantic's memory is not spent here."""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from stillhouse.errors import SpecError

__all__ = ["limit", "read"]

T = TypeVar("T")


def read(kind: type[T], data: Any, field: str) -> T:
    """Build `kind`, a dataclass of plain values, tuples, literals and further such dataclasses.

    Raises:
        SpecError: an unknown or missing name, another type, or what the class itself refuses.
    """
    if not isinstance(data, dict):
        raise SpecError("a map belongs here", field=field, found=str(data)[:80], allowed="a map")
    fields = {_camel(each.name): each for each in dataclasses.fields(kind) if each.init}  # type: ignore[arg-type]
    unknown = [str(name) for name in data if name not in fields]
    if unknown:
        raise SpecError("no such field", field=f"{field}.{unknown[0][:60]}", allowed=", ".join(fields))
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, each in fields.items():
        if name in data:
            values[each.name] = _value(hints[each.name], data[name], f"{field}.{name}")
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise SpecError("the field is missing", field=f"{field}.{name}")
    try:
        return kind(**values)
    except SpecError as error:
        error.problem = dataclasses.replace(error.problem, field=f"{field}.{error.problem.field}")
        raise


def limit(good: bool, field: str, found: object, allowed: str) -> None:
    """Refuse a value that is out of its range.

    Raises:
        SpecError: `good` is false.
    """
    if not good:
        raise SpecError("out of range", field=field, found=str(found)[:80], allowed=allowed)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _value(hint: Any, data: Any, field: str) -> Any:
    origin = get_origin(hint)
    if hint is Any:
        return data
    if origin in (Union, types.UnionType):
        if data is None:
            return None
        (hint,) = (each for each in get_args(hint) if each is not type(None))
        return _value(hint, data, field)
    if origin is Literal:
        if data not in get_args(hint) or isinstance(data, bool):
            raise _wrong(field, data, ", ".join(map(str, get_args(hint))))
        return data
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise _wrong(field, data, "a list")
        inner = get_args(hint)
        kinds = [inner[0]] * len(data) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) != len(data):
            raise _wrong(field, data, f"{len(kinds)} values")
        return tuple(_value(one, each, f"{field}[{n}]") for n, (one, each) in enumerate(zip(kinds, data, strict=True)))
    if origin is dict:
        if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
            raise _wrong(field, data, "a map")
        return data
    if dataclasses.is_dataclass(hint):
        return read(hint, data, field)  # type: ignore[arg-type]
    if hint is float:
        try:
            number = float(data) if type(data) in (int, float) else math.nan
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _wrong(field, data, "a finite number")
        return number
    if not isinstance(data, hint) or (hint is int and isinstance(data, bool)):
        raise _wrong(field, data, {int: "a whole number", str: "text", bool: "true or false"}[hint])
    return data


def _wrong(field: str, found: Any, allowed: str) -> SpecError:
    return SpecError("another kind of value belongs here", field=field, found=str(found)[:80], allowed=allowed)
