"""The protocol's other messages as JSON: every field by its own name, numbers as numbers, as Triton tells them."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.message import Message

from stillhouse.edge.rest.values import word

__all__ = ["plain"]


def plain(message: Any) -> dict[str, Any]:
    """Return a message as JSON has it. Left out are messages that are not there, and choices that were not made."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if (isinstance(value, Message) or field.containing_oneof is not None) and not message.HasField(field.name):
            continue
        found[field.name] = _value(field, value)
    return found


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else word(value)
    if isinstance(value, int) and field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "items"):
        inner = field.message_type.fields_by_name["value"]
        return {str(name): _value(inner, value[name]) for name in value}
    return [_value(field, each) for each in value]
