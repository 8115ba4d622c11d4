"""From a YAML file to a `DistilledModel`, with every mistake named: where, what was found, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stillhouse.api.explain import line_of, problems_of
from stillhouse.api.fitting_losses import foreign_loss
from stillhouse.api.model import DistilledModel
from stillhouse.errors import NotAvailable, Problem, SpecError

__all__ = ["MAX_BYTES", "load_file", "load_text", "load_with_lines", "parse"]

MAX_BYTES = 1 << 20
"""Largest file that is read; etcd refuses larger resources as well."""

_MAX_DEPTH = 64  # levels; the resource has 8, and Python's stack ends at some hundred
_TYPES_OF_JSON = ("null", "bool", "int", "float", "str", "seq", "map")
_TAG = "tag:yaml.org,2002:"
_MAX_PROBLEMS = 50
"""Mistakes that are explained; whoever made more of them made one of them often."""
_NUMBERS = {
    f"{_TAG}int": re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)\Z"),
    f"{_TAG}float": re.compile(
        r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
}
"""Numbers as kubectl reads them: PyYAML takes 1:30 for 90, as YAML 1.1 did, and 1e3 for a text."""
_FIXES = (
    ("\\t", "indent with spaces"),
    ("could not find expected ':'", "write a colon and a space after the name: name: value"),
    (
        "mapping values are not allowed",
        "mend this line or the one above (name: value) and check the indentation; a text with : or # in it needs quotes",
    ),
    (
        "expected <block end>",
        "check the indentation: it begins left or right of those beside it; a text with : or # needs quotes",
    ),
    ("for the tag", "remove the tag (what begins with !): only text, numbers, true, false, null, lists and mappings are read"),
)


class _Loader(yaml.SafeLoader):
    """Reads the YAML that has a counterpart in JSON, as kubectl does, and nothing else.

    Refused: repeated keys, keys that are not text, aliases (a small file could otherwise unfold into a huge one) and
    tags of types that JSON lacks. A date is text.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class declares it
        first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in resolvers if tag.removeprefix(_TAG) in _TYPES_OF_JSON]
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
            raise _mistake("aliases are not allowed here", event.start_mark, "write out here what the alias (*) stands for")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _mistake(f"more than {_MAX_DEPTH} levels", event.start_mark, "a DistilledModel has eight: mend the indentation")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _mistake(f"keys are strings, this one is {key!r}"[:200], key_node.start_mark, "put the key in quotes")
            if key in seen:
                raise _mistake(f"{key[:80]} stands here twice", key_node.start_mark, "remove one of the two")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _mistake(problem: str, mark: yaml.Mark, fix: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark, note=fix)


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
        raise SpecError("the file is not UTF-8", field=str(path), found=str(error), fix="save it as UTF-8") from error
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
        mark, told = error.problem_mark, str(error.problem)
        known = next(
            (fix for sign, fix in _FIXES if sign in told),
            "mend this line; check the indentation; a text with : or # in it needs quotes",
        )
        fix = error.note or known
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        problem = Problem(f"not readable as YAML: {error.problem}", name, fix=fix, line=line, column=column)
        raise SpecError.of([problem]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError("not readable as YAML", field=name, found=str(error)[:200], fix=_way_out(error)) from error
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
        details = error.errors(include_url=False)
        problems = problems_of(DistilledModel, details[:_MAX_PROBLEMS], lines or {})
        foreign = foreign_loss(data.get("spec"))
        if foreign is not None and not any(each.message == str(foreign) for each in problems):
            # Before what else is wrong with that loss, which need not be mended.
            place = f"spec.{foreign.field}"
            problems.insert(0, Problem(str(foreign), place, fix=foreign.fix, line=line_of(place, lines or {})))
        unavailable = [p for p in problems if p.message.startswith("not available")]
        kind = NotAvailable if len(unavailable) == len(problems) else SpecError
        if len(details) > _MAX_PROBLEMS:
            problems.append(Problem(f"{len(details) - _MAX_PROBLEMS} more mistakes are not listed", fix="mend these first"))
        raise kind.of(problems) from None


def _way_out(error: Exception) -> str:
    if isinstance(error, yaml.YAMLError):
        return "remove the characters that do not print (is it a text file?)"
    if isinstance(error, RecursionError):
        return "a DistilledModel has eight levels: mend the indentation"
    return "no number of a DistilledModel has so many digits: mend it, or put a text of digits in quotes"


def _no_mapping(data: Any, name: str) -> SpecError:
    return SpecError(
        "a DistilledModel is a mapping",
        field=name,
        found=type(data).__name__,
        fix="start with: apiVersion: stillhouse.io/v1alpha1",
    )


def _refuse_huge(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise SpecError(
            "the file is too large", field=name, allowed="at most 1 MiB", fix="give the path of a DistilledModel's file"
        )


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
        fix = "put each resource into a file of its own" if found else "write the resource: examples/ has some"
        raise SpecError("the file must hold one resource", field=name, found=f"{len(found)} YAML documents", fix=fix)
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
