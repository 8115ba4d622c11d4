"""From a YAML file to a `DistilledModel`, with every mistake named: where, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stillhouse.api.explain import problems_of
from stillhouse.api.model import DistilledModel
from stillhouse.errors import NotAvailable, Problem, SpecError

__all__ = ["MAX_BYTES", "load_file", "load_text", "load_with_lines", "parse"]

MAX_BYTES = 1 << 20
"""Largest file that is read; etcd refuses larger resources as well."""

_MAX_DEPTH = 64  # levels; the resource has 8, and Python's stack ends at some hundred
_TYPES_OF_JSON = ("null", "bool", "int", "float", "str", "seq", "map")
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Reads the YAML that has a counterpart in JSON, as kubectl does, and nothing else.

    Refused: repeated keys, keys that are not text, aliases (a small file could otherwise unfold into a huge one) and
    tags of types that JSON lacks. A date is text.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_TAG) in _TYPES_OF_JSON]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in _TYPES_OF_JSON
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed here", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"more than {_MAX_DEPTH} levels", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"keys are strings, this one is {key!r}", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"{key} stands here twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_file(path: Path) -> DistilledModel:
    """Read and validate a file with one `DistilledModel`.

    Raises:
        SpecError: the file is missing, is not YAML, or is not valid; every problem found is in `problems`.
        NotAvailable: a field is used that a later version implements.
    """
    return load_with_lines(path)[0]


def load_with_lines(path: Path) -> tuple[DistilledModel, dict[str, int]]:
    """Return what `load_file` does, and the line of each field that stands there: sources are judged later. Raises the same."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        _refuse_huge(len(content), str(path))
        text = content.decode("utf-8")
    except FileNotFoundError as error:
        near = sorted(str(other) for other in path.parent.glob("*.y*ml"))[:5] if path.parent.is_dir() else []
        raise SpecError(
            "there is no such file", field=str(path), allowed=", ".join(near), fix="give the path of a DistilledModel's YAML file"
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError("the file is not UTF-8", field=str(path), found=str(error)) from error
    except OSError as error:
        raise SpecError("the file cannot be read", field=str(path), found=error.strerror or str(error)) from error
    return _load(text, str(path))


def load_text(text: str, name: str = "") -> DistilledModel:
    """Validate YAML text with one `DistilledModel`; `name` is shown in errors. Raises as `load_file`."""
    return _load(text, name)[0]


def _load(text: str, name: str) -> tuple[DistilledModel, dict[str, int]]:
    _refuse_huge(len(text), name)
    try:
        data, lines = _read(text, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        fix = "indent with spaces" if "\\t" in str(error.problem) else "mend this line; a text with : or # in it needs quotes"
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        problem = Problem(f"not readable as YAML: {error.problem}", name, fix=fix, line=line, column=column)
        raise SpecError.of([problem]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError("not readable as YAML", field=name, found=str(error)[:200]) from error
    if not isinstance(data, dict):
        raise _no_mapping(data, name)
    return parse(data, lines), lines


def parse(data: Any, lines: Mapping[str, int] | None = None) -> DistilledModel:
    """Validate plain data. `lines` maps field paths to line numbers that errors show.

    Raises:
        SpecError, NotAvailable: as `load_file`.
    """
    if not isinstance(data, dict):
        raise _no_mapping(data, "")
    try:
        return DistilledModel.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = problems_of(DistilledModel, error.errors(include_url=False), lines or {})
        unavailable = [p for p in problems if p.message.startswith("not available")]
        kind = NotAvailable if len(unavailable) == len(problems) else SpecError
        raise kind.of(problems) from None


def _no_mapping(data: Any, name: str) -> SpecError:
    return SpecError(
        "a DistilledModel is a mapping",
        field=name,
        found=type(data).__name__,
        fix="start with: apiVersion: stillhouse.io/v1alpha1",
    )


def _refuse_huge(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise SpecError("the file is too large", field=name, allowed="at most 1 MiB")


def _read(text: str, name: str) -> tuple[Any, dict[str, int]]:
    """Return the only document of a YAML text and the line of each of its fields."""
    loader = _Loader(text)
    try:
        found: list[tuple[Any, yaml.Node]] = []
        while loader.check_node():
            node = loader.get_node()
            data = loader.construct_document(node) if node is not None else None
            if node is not None and data is not None:  # null: nothing stands between two separators
                found.append((data, node))
    finally:
        loader.dispose()
    if len(found) != 1:
        raise SpecError("the file must hold one resource", field=name, found=f"{len(found)} YAML documents")
    data, node = found[0]
    lines: dict[str, int] = {}
    _number(node, "", lines)
    return data, lines


def _number(node: yaml.Node, path: str, lines: dict[str, int]) -> None:
    """Note the line, from 1, of every field below a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{path}.{key.value}" if path else str(key.value)
            lines[inner] = key.start_mark.line + 1
            _number(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            lines[f"{path}[{position}]"] = value.start_mark.line + 1
            _number(value, f"{path}[{position}]", lines)
