"""From pydantic's errors to problems that a user can mend: the field, what was found, what is allowed, what to write."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic_core import ErrorDetails

from stillhouse.api import gate, pipeline, scalars
from stillhouse.api.base import ApiModel, Mistake, ReservedField, models_of
from stillhouse.api.meant import nearest, rewritten, task_problem, within
from stillhouse.errors import Problem

__all__ = ["WRITTEN_AS", "line_of", "problems_of"]

WRITTEN_AS = {
    scalars.DECIMAL: 'a decimal in quotes, of at most 9 digits before the point and 9 behind it, for example "0.7"',
    scalars.PERCENT: 'a percentage in quotes, 0% to 100%, of at most 3 digits behind the point, for example "70%"',
    scalars.SHARE_OR_DECIMAL: 'a percentage or a decimal in quotes, for example "70%" or "0.7"',
    scalars.DURATION: "a number with a unit: us, ms, s, m or h, for example 20ms",
    scalars.QUANTITY: "bytes, plain or with a unit: Ki, Mi, Gi, Ti, k, M, G or T, for example 12Mi",
    scalars.CPU: 'CPUs in quotes, for example "1" or "500m"',
    scalars.NAME: "small letters, digits and dashes, first a letter, for example docstring-search",
    scalars.URI: "a URI such as file://model, hf://owner/model, or a named source such as models:minilm",
    pipeline.TENSOR: "letters, digits and _, first a letter or _, for example SCORES",
    pipeline.REFERENCE: "TENSOR of this model, STEP.TENSOR of an earlier step or request.TENSOR, for example EMBEDDING",
    gate.METRIC_PATTERN: "agreement, accuracy, macro-f1, log-loss, per-class-loss, cosine, neighbour-overlap@K or mrr@K",
}
"""What each pattern of the API means, in words."""

Location = Sequence[int | str]

_TYPES = {
    "bool_type": "true or false belongs here",
    "dict_type": "a mapping (name: value) belongs here",
    "int_from_float": "a whole number belongs here",
    "int_type": "a whole number belongs here",
    "list_type": "a list belongs here",
    "model_type": "a mapping (name: value) belongs here",
    "string_type": "text belongs here",
    "tuple_type": "a list belongs here",
}


def problems_of(model: type[ApiModel], details: list[ErrorDetails], lines: Mapping[str, int]) -> list[Problem]:
    """Translate the errors of one validation.

    Args:
        model: what was validated; its field names are offered for unknown ones.
        details: `ValidationError.errors()`.
        lines: field path → line number, from 1.
    """
    found = [_problem(model, detail) for detail in _causes(details)]
    return [dataclasses.replace(problem, line=line_of(problem.field, lines)) for problem in found]


def _causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what only follows from a mistake further in: a list that is too short because its items are wrong."""
    places = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(len(p) > len(detail["loc"]) and p[: len(detail["loc"])] == detail["loc"] for p in places)
    ]


def _problem(model: type[ApiModel], detail: ErrorDetails) -> Problem:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    error = context.get("error")
    field = _path(detail["loc"])
    if isinstance(error, Mistake):
        field = f"{field}.{error.field}".lstrip(".") if error.field else field
        value = _inside(value, error.field)
    found = "" if kind == "missing" or isinstance(value, dict | ApiModel) else _short(value)
    if kind == "extra_forbidden":
        return _unknown(model, detail["loc"], field, _short(value))
    if kind == "missing":
        return Problem("is required", field, "", "", f"add {detail['loc'][-1]}:")
    if isinstance(error, Mistake):
        fix = error.fix
        if str(error).startswith("not available") and not fix:
            fix = "remove the field; CHANGELOG.md says what each version brings"
        return Problem(str(error), field, found, error.allowed, fix)
    if kind == "literal_error" and field == "spec.source.task":
        return task_problem(field, found, str(value))
    if kind == "literal_error":
        allowed = str(context.get("expected", ""))
        return Problem("is not one of the allowed values", field, found, allowed, nearest(str(value), allowed))
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern", ""))
        return Problem(
            "is not written as it must be", field, found, WRITTEN_AS.get(pattern, pattern), rewritten(pattern, str(value), field)
        )
    if kind.endswith(("too_short", "too_long")):
        limit = f"at least {context['min_length']}" if kind.endswith("short") else f"at most {context['max_length']}"
        if kind.startswith("string"):
            return Problem(f"{len(str(value))} characters stand here", field, found, f"{limit} characters")
        return Problem(f"{context['actual_length']} items stand here", field, "", limit)
    if kind in _TYPES:
        quotes = kind == "string_type" and isinstance(value, int | float)
        return Problem(_TYPES[kind], field, _short(value), "", f'put it in quotes: "{found}"' if quotes else "")
    return Problem(detail["msg"][:1].lower() + detail["msg"][1:], field, found)


def _unknown(model: type[ApiModel], location: Location, field: str, found: str) -> Problem:
    name = str(location[-1])
    allowed = sorted(_fields_at(model, location[:-1]))
    near = difflib.get_close_matches(name.replace("_", "").lower(), [each.lower() for each in allowed], n=1, cutoff=0.6)
    meant = next((each for each in allowed if near and each.lower() == near[0]), "")
    meant = meant or within(_models_at(model, location[:-1]), name)
    return Problem("unknown field", field, found, ", ".join(allowed), f"write {meant}" if meant else f"remove {name}")


def _models_at(model: type[ApiModel], location: Location) -> list[type[ApiModel]]:
    """Return the models of which one stands at a place of the resource."""
    current = [model]
    for part in location:
        if isinstance(part, int):
            continue
        found = [info for each in current for info in each.model_fields.values() if info.alias == part]
        current = [inner for info in found for inner in models_of(info.annotation)]
    return current


def _fields_at(model: type[ApiModel], location: Location) -> set[str]:
    """Return the names that are allowed at a place of the resource; reserved ones are of no use to anybody yet."""
    return {
        info.alias or name
        for each in _models_at(model, location)
        for name, info in each.model_fields.items()
        if not any(isinstance(mark, ReservedField) for mark in info.metadata)
    }


def _inside(value: Any, path: str) -> Any:
    """Return what stands at a path below a mapping or a model, `None` where nothing does."""
    for name in re.findall(r"\[\d+\]|[^.\[]+", path):
        if name.startswith("["):
            number = int(name[1:-1])
            value = value[number] if isinstance(value, list | tuple) and number < len(value) else None
        elif isinstance(value, ApiModel):
            value = next((getattr(value, key) for key, info in type(value).model_fields.items() if info.alias == name), None)
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def line_of(path: str, lines: Mapping[str, int]) -> int | None:
    """Return the line of a field, or of the nearest place around it that the file has."""
    place = path
    while place and place not in lines:
        dot, bracket = place.rfind("."), place.rfind("[")
        place = place[: max(dot, bracket, 0)]
    return lines[place] if place else None


def _short(value: Any) -> str:
    """Write a value as YAML on one line of at most 80 characters."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()
    except (yaml.YAMLError, ValueError, RecursionError):  # an integer of thousands of digits, a list of thousands of levels
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def _path(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
