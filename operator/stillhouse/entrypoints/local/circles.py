"""Whether the gateway of a file asks one that asks it: told by the files beside it, and by those that were built here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from stillhouse.api.explain import line_of
from stillhouse.api.load import MAX_BYTES
from stillhouse.api.model import KIND, DistilledModel
from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import Problem, SpecError
from stillhouse.planning.circles import asked_of, circle, field_of, told

__all__ = ["refuse_circle"]

_FILES = 200


def refuse_circle(model: DistilledModel, file: Path, store: LocalStore, lines: Mapping[str, int]) -> None:
    """Follow whom the gateway asks by name, from file to file. `lines`: field → line of the file.

    Raises:
        SpecError: that leads back.
    """
    spec = model.spec.model_dump(by_alias=True, exclude_none=True, include={"edge"})
    name = model.metadata.name
    if asked_of(spec) in ("", name):  # of its own name another one may well be at `still edge --cloud`
        return
    beside: dict[str, object] = {known: each for path in _yaml_beside(file) for known, each in _specs(path)}
    beside[name] = spec

    def asked(other: str) -> str:
        if other not in beside:
            built = str(store.state(other).get("file") or "")
            beside[other] = dict(_specs(Path(built))).get(other) if built else None
        return asked_of(beside[other])

    found = circle(name, asked)
    if found:
        field = field_of(spec)
        problem = Problem(
            "a request would go round for ever",
            field=field,
            found=told(found),
            allowed="a model whose gateway does not lead back here",
            fix="name another model, or write address where one of that name is elsewhere",
            line=line_of(field, lines),
        )
        raise SpecError.of([problem])


def _yaml_beside(file: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from sorted(each for each in file.resolve().parent.glob("*.y*ml") if each.name != file.name)[:_FILES]


def _specs(path: Path) -> Iterator[tuple[str, object]]:
    """Yield name and spec of every DistilledModel of a file, as they were written; of what cannot be read nothing."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return
    for each in documents:
        if isinstance(each, Mapping) and each.get("kind") == KIND and isinstance(each.get("metadata"), Mapping):
            yield str(each["metadata"].get("name", "")), each.get("spec")
