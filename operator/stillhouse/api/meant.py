"""What was probably meant: a field that stands deeper, a path or a name of the hub for a URI, another unit, a misspelt name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, get_args, get_origin

from stillhouse.api import gate, scalars
from stillhouse.api.base import ApiModel, models_of
from stillhouse.api.source import Task
from stillhouse.errors import Problem

__all__ = ["nearest", "rewritten", "task_problem", "uri_fix", "within"]

_DEPTH = 3
_SEVERAL = 2
_TASKS = {
    "sentence-embedding": ("sentence-similarity", "feature-extraction", "embedding", "embeddings", "text-embedding"),
    "text-classification": ("classification", "sentiment-analysis"),
    "image-classification": (),
    "tabular-classification": ("tabular", "table-classification", "tables"),
    "time-series-classification": ("series-classification", "timeseries-classification", "time-series", "timeseries"),
}
"""Ours → names that others use for it."""
_GENERATES = re.compile("generat|causal|language-model|translat|summar|chat|fill-mask|seq2seq|text2text|^llm$|question-answering")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_BYTES = re.compile(r"(?P<number>[0-9.]+)\s*(?P<unit>[kmgt])(?P<binary>i?)b?(?:ytes?)?", re.IGNORECASE)
_METRICS = "agreement, accuracy, macro-f1, log-loss, per-class-loss, cosine, neighbour-overlap@10, mrr@10"
_MODELS = ("spec.source.uri", "spec.distill.student.uri")


def task_problem(field: str, found: str, value: str) -> Problem:
    """Say which tasks there are, and what becomes of one that is not among them."""
    allowed = ", ".join(get_args(Task))
    if _GENERATES.search(value.lower()):
        return Problem(
            "models that write text are no task of Stillhouse",
            field,
            found,
            allowed,
            "take an encoder with one of these tasks; for a generative model use another tool",
        )
    written = value.lower().replace("_", "-")
    near = next((ours for ours, theirs in _TASKS.items() if written in (ours, *theirs)), "")
    near = near or next(iter(difflib.get_close_matches(written, _TASKS, n=1, cutoff=0.8)), "")
    return Problem("is not one of the allowed values", field, found, allowed, f"write {near}" if near else "")


def uri_fix(value: str, field: str) -> str:
    """Return what to write for a path, or for OWNER/NAME of the hub, where a URI belongs; empty where nobody could tell."""
    if not value or "://" in value:
        return ""
    if value.startswith("/"):
        return f"write file://{value}"
    if value.startswith(("./", "../", "~")) or not _HUB.fullmatch(value) or field not in _MODELS:
        return f"write file://{value if value.startswith(('.', '~')) else f'./{value}'} for a file or folder beside this one"
    return f"write hf://{value} for a model of the Hugging Face hub, or file://./{value} for a folder beside this file"


def nearest(value: str, allowed: str) -> str:
    """Return the one of the allowed values, with commas between, that is spelt most alike, as a fix; empty where none is."""
    options = [part.strip(" '") for part in allowed.replace(" or ", ",").split(",")]
    near = difflib.get_close_matches(value, options, n=1, cutoff=0.5)
    return f"write {near[0]}" if near else ""


def rewritten(pattern: str, value: str, field: str) -> str:
    """Return what mends a value that does not match a pattern of the API; empty where nobody could tell what it means."""
    written: list[str] = []
    if pattern == scalars.URI:
        return uri_fix(value, field)
    if pattern == gate.METRIC_PATTERN:
        return nearest(value, _METRICS)
    if pattern == scalars.DURATION and re.fullmatch(pattern, f"{value}ms"):
        return f"write for example {value}ms"
    if pattern == scalars.QUANTITY and (size := _BYTES.fullmatch(value.strip())):
        large = size["unit"].upper()  # thousands are written k, as in Kubernetes
        powers_of_ten = [] if size["binary"] else ["k" if large == "K" else large]
        written = [f"{size['number']}{unit}" for unit in (*powers_of_ten, f"{large}i")]
    if pattern == scalars.DECIMAL and re.fullmatch(scalars.PERCENT, value):
        written = [f"{(Decimal(value[:-1]) / 100).normalize():f}"]
    if pattern == scalars.PERCENT and re.fullmatch(scalars.DECIMAL, value) and Decimal(value) <= 1:
        written = [f"{(Decimal(value) * 100).normalize():f}%"]
    quote = "" if pattern == scalars.QUANTITY else '"'
    return f"write {' or '.join(f'{quote}{each}{quote}' for each in written)}" if _all(pattern, written) else ""


def _all(pattern: str, written: list[str]) -> bool:
    return bool(written) and all(re.fullmatch(pattern, each) for each in written)


def within(models: Sequence[type[ApiModel]], name: str) -> str:
    """Return where a field of this name stands below some models, such as `stages[].epochs`; empty for none and for many."""
    level: list[tuple[str, type[ApiModel]]] = [("", each) for each in models]
    for _ in range(_DEPTH):
        level = [(f"{path}{step}.", inner) for path, each in level for step, inner in _below(each)]
        found = [f"{path}{name}" for path, each in level if any(info.alias == name for info in each.model_fields.values())]
        if found:
            return " or ".join(found) if len(found) <= _SEVERAL else ""
    return ""


def _below(model: type[ApiModel]) -> Iterator[tuple[str, type[ApiModel]]]:
    """Yield the parts of a model that are models, those first that every file has."""
    for name, info in sorted(model.model_fields.items(), key=lambda each: not each[1].is_required()):
        many = "[]" if _is_list(info.annotation) else ""
        for inner in models_of(info.annotation):
            yield f"{info.alias or name}{many}", inner


def _is_list(annotation: Any) -> bool:
    """Say whether a field holds several: a tuple, by itself or beside None."""
    return get_origin(annotation) is tuple or any(get_origin(part) is tuple for part in get_args(annotation))
