"""Protobuf descriptors from a table of names, numbers and types: one message a line, `field=number:type`.

`*type` is a repeated field, `map:type` a map from strings, `map:key:type` one from others, `Outer.Inner` a nested message,
`one-of:name` at the end of a line makes all of its fields a choice, `field=number:type|name` one of them. A name after `enum` is
that of an enumeration, its fields are values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from stillhouse.edge.status import Code, RpcError

__all__ = ["Method", "Protocol", "parsed"]

Method = tuple[str, str, str, bool, bool]
"""Name, type taken, type given, whether the client streams, whether the server does."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _Field.TYPE_DOUBLE, "float": _Field.TYPE_FLOAT, "int64": _Field.TYPE_INT64, "uint64": _Field.TYPE_UINT64,
    "int32": _Field.TYPE_INT32, "bool": _Field.TYPE_BOOL, "string": _Field.TYPE_STRING, "bytes": _Field.TYPE_BYTES,
    "uint32": _Field.TYPE_UINT32,
}  # fmt: skip


class Protocol:
    """One file of messages and services. `file` is its descriptor, `services` their full names."""

    def __init__(self, name: str, package: str, table: str, services: Mapping[str, tuple[Method, ...]]) -> None:
        self.package = package
        self.file = _file(name, package, table, services)
        self.services = tuple(f"{package}.{each}" for each in services)
        self._pool = descriptor_pool.DescriptorPool()
        self._pool.Add(self.file)

    def message(self, name: str) -> Any:
        """Return the class of a message."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"{self.package}.{name}"))


def _file(name: str, package: str, table: str, services: Mapping[str, tuple[Method, ...]]) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    known: dict[str, Any] = {}
    enums, added = set[str](), []
    for line in table.strip().splitlines():
        path, *fields = line.split()
        if path == "enum":
            path, *fields = fields
            outer, _, inner = path.rpartition(".")
            kind = (known[outer] if outer else file).enum_type.add(name=inner)
            for value, number in (each.split("=") for each in fields):
                kind.value.add(name=value, number=int(number))
            enums.add(path)
            continue
        outer, _, inner = path.rpartition(".")
        known[path] = one = known[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=path)
        members = [each for each in fields if not each.startswith("one-of:")]
        if len(members) < len(fields):
            one.oneof_decl.add(name=fields[-1].removeprefix("one-of:"))
        for field in members:
            added.append(_add(one, f"{package}.", path, field, choice=len(members) < len(fields)))
    for each in added:
        if each.type_name.removeprefix(f".{package}.") in enums:
            each.type = _Field.TYPE_ENUM
    for service, methods in services.items():
        one = file.service.add(name=service)
        for name_, taken, given, client, server in methods:
            method = one.method.add(name=name_, input_type=f".{package}.{taken}", output_type=f".{package}.{given}")
            if client:
                method.client_streaming = True
            if server:
                method.server_streaming = True
    return file


def _add(one: Any, package: str, path: str, text: str, *, choice: bool) -> Any:
    name, _, rest = text.partition("=")
    number, _, kind = rest.partition(":")
    kind, _, chosen = kind.partition("|")
    first, *others = name.split("_")
    json_name = first + "".join(each[:1].upper() + each[1:] for each in others)  # clients of reflection show it
    field = one.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL, json_name=json_name)
    if choice:
        field.oneof_index = 0
    elif chosen:
        choices = [each.name for each in one.oneof_decl]
        if chosen not in choices:
            one.oneof_decl.add(name=chosen)
        field.oneof_index = choices.index(chosen) if chosen in choices else len(choices)
    if kind.startswith("map:"):
        entry = one.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        key, _, kind = kind.removeprefix("map:").rpartition(":")
        entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_SCALARS[key or "string"])
        value = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, type=_SCALARS.get(kind, _Field.TYPE_MESSAGE))
        if kind not in _SCALARS:
            value.type_name = f".{package}{kind}"
        field.label, field.type, field.type_name = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE, f".{package}{path}.{entry.name}"
        return field
    if kind.startswith("*"):
        field.label, kind = _Field.LABEL_REPEATED, kind[1:]
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{package}{kind}"
    return field


def parsed(kind: Any, message: bytes) -> Any:
    """Return a message of a kind.

    Raises:
        RpcError: INVALID_ARGUMENT; it is none.
    """
    try:
        return kind.FromString(message)
    except (DecodeError, ValueError) as error:
        raise RpcError(Code.INVALID_ARGUMENT, f"this is no {kind.DESCRIPTOR.name}: {error}"[:300]) from error
