"""Labels in the order of a model's outputs, and what licence a folder states."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.errors import SourceError
from stillhouse.passes.sources.folder import SourceFolder
from stillhouse.passes.sources.weights import Tensor

__all__ = ["check_answer", "check_outputs", "headless", "label_order", "licence_of"]

_FRONT = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_KNOWN = (
    ("Apache License", "Apache-2.0"),
    ("MIT License", "MIT"),
    ("Mozilla Public License", "MPL-2.0"),
    ("BSD 3-Clause", "BSD-3-Clause"),
    ("GNU GENERAL PUBLIC LICENSE", "GPL"),
)
_HEADS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")


def label_order(config: Mapping[str, Any], given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the labels by id: those of the resource when given, else `id2label` of config.json.

    Raises:
        SourceError: neither is there, as in an encoder; ids have holes, a label occurs twice, the numbers differ, or both name
            the same labels in other orders.
    """
    table = config.get("id2label")
    own: list[str] = []
    if isinstance(table, dict) and table:
        try:
            by_id = {int(key): str(value) for key, value in table.items()}
        except ValueError as error:
            raise _bad(f"id2label: {error}", "whole numbers from 0 as keys") from error
        if sorted(by_id) != list(range(len(by_id))):
            raise _bad(f"id2label with ids {sorted(by_id)[:10]}", "ids 0, 1, 2 … without holes")
        own = [by_id[key] for key in range(len(by_id))]
    labels = list(given) if given else own
    architectures = config.get("architectures")
    if (
        not labels
        and isinstance(architectures, list)
        and architectures
        and all(str(each).endswith("Model") for each in architectures)
    ):
        raise headless(f"config.json: {', '.join(map(str, architectures))[:100]}, and no id2label")
    if not labels:
        raise _bad("no labels", "source.labels, or id2label in config.json")
    if own and len(labels) != len(own):
        raise _bad(f"{len(labels)} labels for a model with {len(own)} outputs", f"{len(own)} labels")
    if own and tuple(labels) != tuple(own) and sorted(labels) == sorted(own):
        raise _bad(f"{', '.join(labels)}; the model's own id2label: {', '.join(own)}", "one order: both cannot be right")
    label, count = Counter(labels).most_common(1)[0]
    if count > 1:
        raise _bad(f"{label!r} twice", "each label once")
    return tuple(labels)


def check_outputs(labels: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
    """Hold the labels against the rows of a classification head with one of the usual names, if there is one.

    Raises:
        SourceError: there is another number of rows.
    """
    for name in _HEADS:
        shape = tensors[name].shape if name in tensors else ()
        if shape and shape[0] != len(labels):
            raise _bad(f"{len(labels)} labels, {shape[0]} rows of {name}", f"{shape[0]} labels")


def headless(found: str) -> SourceError:
    """Return what is raised of an encoder where a classifier is wanted; `found`: what shows it."""
    return SourceError(
        "this model is of another task: it has no classification head",
        field="source.uri",
        found=found,
        allowed="a classifier, as the task says",
        fix="name a classifier; of an encoder as the source spec.source.fineTune makes one, or write task: sentence-embedding",
    )


def check_answer(labels: Sequence[str], dimension: int, outputs: int, target: str) -> None:
    """Hold what the resource says of a factory's network against the outputs that it has.

    Raises:
        SourceError: it has another number.
    """
    if labels and outputs != len(labels):
        raise _bad(f"{len(labels)} labels, {outputs} outputs of {target}", f"{outputs} labels")
    if not labels and outputs != dimension:
        raise SourceError(
            "the dimension does not fit the model",
            field="source.factory.arguments.dimension",
            found=f"{dimension}, {outputs} outputs of {target}",
            allowed=f"{outputs}",
            fix=f"write dimension: {outputs}, or have {target} build a network of {dimension} outputs",
        )


def licence_of(folder: SourceFolder) -> str:
    """Return the licence that a README's front matter or a LICENSE file states, "" where none does."""
    if folder.has("README.md"):
        text = folder.path("README.md").read_bytes()[: 1 << 16].decode("utf-8", "replace").replace("\r\n", "\n")
        front = _FRONT.match(text)
        stated = re.search(r"^license:\s*[\"']?([^\s\"']+)", front.group(1), re.MULTILINE) if front else None
        if stated:
            return stated.group(1)[:64]
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"):
        if folder.has(name):
            text = folder.path(name).read_bytes()[:4096].decode("utf-8", "replace")
            known = [identifier for phrase, identifier in _KNOWN if phrase in text]
            return known[0] if known else (text.strip().splitlines() or [""])[0].strip()[:64]
    return ""


def _bad(found: str, allowed: str) -> SourceError:
    return SourceError(
        "the labels do not fit the model",
        field="source.labels",
        found=found[:200],
        allowed=allowed,
        fix="list source.labels in the order of the model's outputs",
    )
