"""A file, bound to this machine: its sources pinned, its plan made."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stillhouse.api.load import load_file
from stillhouse.api.model import DistilledModel
from stillhouse.clients.hardware import hardware
from stillhouse.clients.sources import Resolved, resolve
from stillhouse.clients.sources.facts import data_info, factory_pin, model_info
from stillhouse.clients.store.local import LocalStore
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


def open_file(path: Path, sources: Mapping[str, str] | None = None) -> Workspace:
    """Read a file, bind and pin its sources, and plan it.

    Raises:
        SpecError, SourceError: the file or one of its sources cannot be used; every problem names its field.
    """
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
        found = resolve(uri, base=base, bindings=bindings, cache=settings.cache, field=field)
        is_model = field in {"spec.source.uri", "spec.distill.student.uri"}
        info = model_info(found) if is_model else data_info(found)
        resolved[uri] = found
        pins[uri] = Pin(found.digest, found.size, info)
    for field, target in _factories(model):
        pins[f"factory:{target}"] = Pin(factory_pin(target, base, field))
    here = hardware()
    env = Environment(
        pins=pins,
        toolchain=toolchain(),
        hardware=here.to_json(),
        cpus=float(len(os.sched_getaffinity(0))),
        rebuild=str(store.state(model.metadata.name).get("rebuild", "")),
        reduce_range=here.reduce_range,
    )
    plan = build_plan(model, env, {uri: each.uri for uri, each in resolved.items()})
    return Workspace(path.resolve(), model, settings, store, env, plan, resolved)


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
        found.append(("spec.source.factory.target", model.spec.source.factory.target))
    if model.spec.distill and model.spec.distill.student.factory:
        found.append(("spec.distill.student.factory.target", model.spec.distill.student.factory.target))
    return found
