"""A file, bound to this machine: its sources pinned, its plan made."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.api.load import load_file
from stillhouse.api.model import DistilledModel
from stillhouse.clients.hardware import hardware, reduce_range
from stillhouse.clients.sources import Resolved, resolve
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local.advice import advice
from stillhouse.entrypoints.local.facts import data_info, model_info, size_of
from stillhouse.errors import StillhouseError
from stillhouse.passes.base import Progress, SilentProgress
from stillhouse.passes.models.factory import FACTORY_PATH_VARIABLE, source_digest
from stillhouse.passes.runner import Machine
from stillhouse.planning.build import build_plan
from stillhouse.planning.manifest import PASSES
from stillhouse.planning.plan import Environment, Pin, Plan
from stillhouse.planning.request import uris
from stillhouse.settings import Settings, load_settings

__all__ = ["Workspace", "machine", "open_file"]

DISTRIBUTIONS = {"sklearn": "scikit-learn"}


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything that a command about one file works with."""

    path: Path
    model: DistilledModel
    settings: Settings
    store: LocalStore
    env: Environment
    plan: Plan
    resolved: Mapping[str, Resolved]

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.model.metadata.name

    @property
    def notes(self) -> list[str]:
        """Return what the user should know of this plan before it is carried out."""
        return [*self.plan.notes, *advice(self.model)]

    def source_path(self, uri: str) -> Path:
        """Return the local file or folder behind a URI, fetched if need be."""
        return self.resolved[uri].fetch()


def toolchain() -> dict[str, str]:
    """Return import name → version of what the passes need, "" where it is not installed."""
    found = {}
    for name in sorted({need for entry in PASSES.values() for need in entry.needs}):
        try:
            found[name] = importlib.metadata.version(DISTRIBUTIONS.get(name, name))
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def machine() -> Machine:
    """Return what this machine is, for receipts and measuring keys."""
    return Machine(threads=len(os.sched_getaffinity(0)), toolchain=toolchain(), hardware=hardware().to_json())


def open_file(path: Path, sources: Mapping[str, str] | None = None, progress: Progress | None = None) -> Workspace:
    """Read a file, bind and pin its sources, and plan it. `progress` is told of the sources: a large one takes long.

    Raises:
        SpecError, SourceError: the file or one of its sources cannot be used; every problem names its field.
    """
    progress = progress or SilentProgress()
    model = load_file(path)
    base = path.resolve().parent
    settings = load_settings(base, sources)
    store = LocalStore(settings.home)
    bindings = {name: _absolute(uri, start) for name, (uri, start) in settings.sources.items()}
    resolved: dict[str, Resolved] = {}
    pins: dict[str, Pin] = {}
    for field, uri in uris(model.spec).items():
        if uri in resolved:
            continue
        with _named(field):
            progress.update(0, None, "", f"looking at {uri}")
            report, fetching = _telling(progress, f"looking at {uri}"), _telling(progress, f"downloading {uri}")
            found = resolve(uri, base=base, bindings=bindings, cache=settings.cache, report=report, fetching=fetching)
        is_model = field in {"spec.source.uri", "spec.distill.student.uri"}
        info = model_info(found.path) if is_model else data_info(found.path)
        resolved[uri] = found
        pins[uri] = Pin(found.digest, size_of(found.path), info)
    os.environ[FACTORY_PATH_VARIABLE] = os.pathsep.join([str(base), os.environ.get(FACTORY_PATH_VARIABLE, "")])
    for field, target in _factories(model):
        pins[f"factory:{target}"] = Pin(source_digest(target, (base,), field))
    env = Environment(
        pins=pins,
        toolchain=toolchain(),
        hardware=_measured_on(),
        cpus=float(len(os.sched_getaffinity(0))),
        rebuild=str(store.state(model.metadata.name).get("rebuild", "")),
        reduce_range=reduce_range(hardware().isa),
    )
    plan = build_plan(model, env, {uri: each.uri for uri, each in resolved.items()})
    return Workspace(path.resolve(), model, settings, store, env, plan, resolved)


def _telling(progress: Progress, message: str) -> Callable[[int, int], None]:
    """Return what is told how many bytes of a source have come, or have been hashed."""
    return lambda done, total: progress.update(done, total, "bytes", message)


@contextlib.contextmanager
def _named(field: str) -> Iterator[None]:
    """Name the field of the resource in an error about what it points to."""
    try:
        yield
    except StillhouseError as error:
        first = error.problem
        error.problem = dataclasses.replace(first, field=f"{field} ({first.field})" if "/" in first.field else field)
        raise


def _measured_on() -> dict[str, Any]:
    """Return what a measurement depends on. Not the memory: it differs by pages from boot to boot."""
    facts = hardware().to_json()
    facts.pop("memory")
    return facts


def _absolute(uri: str, start: Path) -> str:
    """Make a relative path of a settings file absolute: it starts from that file's folder."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "file" and not rest.startswith("/"):
        return f"file://{(start / rest).resolve()}"
    if not separator and ":" not in uri:
        return f"file://{(start / uri).resolve()}"
    return uri


def _factories(model: DistilledModel) -> list[tuple[str, str]]:
    found = []
    if model.spec.source.factory:
        found.append(("spec.source.factory", model.spec.source.factory.target))
    if model.spec.distill and model.spec.distill.student.factory:
        found.append(("spec.distill.student.factory", model.spec.distill.student.factory.target))
    return found
