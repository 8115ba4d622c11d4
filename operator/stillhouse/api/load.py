"""From a YAML file to a `DistilledModel`, with every mistake named: where, what was found, what is allowed."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stillhouse.api.model import DistilledModel
from stillhouse.errors import NotAvailable, Problem, SpecError

__all__ = ["load_file", "load_text", "parse"]

MAX_FILE_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys and aliases (a small file could otherwise unfold into a huge one)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

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
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SpecError("the file is too large", field=str(path), allowed="at most 1 MiB")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = sorted(str(other) for other in path.parent.glob("*.y*ml"))[:5] if path.parent.is_dir() else []
        raise SpecError(
            "there is no such file", field=str(path), allowed=", ".join(near), fix="give the path of a DistilledModel's YAML file"
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError("the file is not UTF-8", field=str(path), found=str(error)) from error
    except OSError as error:
        raise SpecError("the file cannot be read", field=str(path), found=error.strerror or str(error)) from error
    return load_text(text, name=str(path))


def load_text(text: str, name: str = "") -> DistilledModel:
    """Validate YAML text with one `DistilledModel`; `name` is shown in errors. Raises as `load_file`."""
    try:
        documents = [doc for doc in yaml.load_all(text, Loader=_Loader) if doc is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise SpecError(f"not readable as YAML: {error.problem}", field=where) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError("not readable as YAML", field=name, found=str(error)[:200]) from error
    if len(documents) != 1:
        raise SpecError("the file must hold one resource", field=name, found=f"{len(documents)} YAML documents")
    return parse(documents[0], lines=_lines(text))


def parse(data: Any, lines: Mapping[str, int] | None = None) -> DistilledModel:
    """Validate plain data. `lines` maps field paths to line numbers that errors show.

    Raises:
        SpecError, NotAvailable: as `load_file`.
    """
    if not isinstance(data, dict):
        raise SpecError(
            "a DistilledModel is a mapping", found=type(data).__name__, fix="start with: apiVersion: stillhouse.io/v1alpha1"
        )
    try:
        return DistilledModel.model_validate(data)
    except ValidationError as error:
        problems = [_problem(detail, lines or {}) for detail in _causes(error.errors(include_url=False))]
        unavailable = [p for p in problems if p.message.startswith("not available")]
        kind = NotAvailable if len(unavailable) == len(problems) else SpecError
        first, *others = problems
        raise kind(
            first.message, field=first.field, found=first.found, allowed=first.allowed, fix=first.fix, others=tuple(others)
        ) from None


def _causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what only follows from a mistake further in: a list that is too short because its items are wrong."""
    places = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(len(p) > len(detail["loc"]) and p[: len(detail["loc"])] == detail["loc"] for p in places)
    ]


def _problem(detail: ErrorDetails, lines: Mapping[str, int]) -> Problem:
    """Translate one of pydantic's errors into what the user needs."""
    path = _path(detail["loc"])
    line = lines.get(path) or lines.get(path.rpartition(".")[0])
    field = f"{path} (line {line})" if line else path
    kind, context = detail["type"], detail.get("ctx", {})
    found = "" if kind == "missing" else _short(detail["input"])
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        allowed = sorted(_fields_at(DistilledModel, detail["loc"][:-1]))
        near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
        return Problem("unknown field", field, found, ", ".join(allowed), f"write {near[0]}" if near else f"remove {name}")
    if kind == "missing":
        return Problem("is required", field, "", "", f"add {detail['loc'][-1]}:")
    if kind == "value_error":
        message = str(context.get("error", detail["msg"]))
        if message.startswith("not available"):
            return Problem(message, field, found, "", "remove the field; CHANGELOG.md says what each version brings")
        return Problem(message, field, "" if isinstance(detail["input"], dict | BaseModel) else found)
    if kind == "literal_error":
        allowed_text = str(context.get("expected", ""))
        return Problem("is not one of the allowed values", field, found, allowed_text, _nearest(detail["input"], allowed_text))
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern", ""))
        return Problem("is not written as it must be", field, found, _EXAMPLES.get(pattern, pattern))
    return Problem(detail["msg"][:1].lower() + detail["msg"][1:], field, found)


def _examples() -> dict[str, str]:
    from stillhouse.api import gate, scalars

    return {
        scalars.DECIMAL: 'a decimal in quotes, for example "0.7"',
        scalars.PERCENT: 'a percentage in quotes, for example "70%"',
        scalars.SHARE_OR_DECIMAL: 'a percentage or a decimal in quotes, for example "70%" or "0.7"',
        scalars.DURATION: "a number with a unit: us, ms, s, m or h, for example 20ms",
        scalars.QUANTITY: "bytes with a unit: Ki, Mi, Gi, k, M or G, for example 12Mi",
        scalars.CPU: 'CPUs in quotes, for example "1" or "500m"',
        scalars.NAME: "small letters, digits and dashes, first a letter, for example docstring-search",
        scalars.URI: "a URI such as file://model, hf://owner/model, or a named source such as models:minilm",
        gate.METRIC_PATTERN: "agreement, accuracy, macro-f1, log-loss, per-class-loss, cosine, neighbour-overlap@K or mrr@K",
    }


_EXAMPLES = _examples()


def _nearest(value: Any, allowed: str) -> str:
    options = [part.strip(" '") for part in allowed.replace(" or ", ",").split(",")]
    near = difflib.get_close_matches(str(value), options, n=1, cutoff=0.5)
    return f"write {near[0]}" if near else ""


def _short(value: Any) -> str:
    text = (
        yaml.safe_dump(value, default_flow_style=True, width=200).strip().removesuffix("...").strip()
        if _plain(value)
        else str(value)
    )
    return text if len(text) <= 80 else text[:77] + "..."


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | list | dict | None)


def _path(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models inside an annotation such as `tuple[Stage, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, tuple, list) or get_args(annotation):
        for part in get_args(annotation):
            yield from _models_of(part)


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> set[str]:
    """Return the field names that are allowed at a place of the resource."""
    current = [model]
    for part in location:
        if isinstance(part, int):
            continue
        found = [info for each in current for info in each.model_fields.values() if info.alias == part]
        current = [inner for info in found for inner in _models_of(info.annotation)]
    return {info.alias or name for each in current for name, info in each.model_fields.items()}


def _lines(text: str) -> dict[str, int]:
    """Map field paths to line numbers, counted from 1."""
    found: dict[str, int] = {}

    def walk(node: yaml.Node | None, path: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = f"{path}.{key.value}" if path else str(key.value)
                found[inner] = key.start_mark.line + 1
                walk(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for position, value in enumerate(node.value):
                found[f"{path}[{position}]"] = value.start_mark.line + 1
                walk(value, f"{path}[{position}]")

    walk(yaml.compose(text, Loader=_Loader), "")
    return found
