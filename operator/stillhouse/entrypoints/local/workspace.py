"""A file, bound to this machine: its sources pinned, its plan made."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.api.load import load_with_lines
from stillhouse.api.model import DistilledModel
from stillhouse.clients.hardware import hardware
from stillhouse.clients.sources import Resolved, absolute
from stillhouse.clients.sources.remote.access import Access
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local.advice import advice
from stillhouse.entrypoints.local.between import find_middle
from stillhouse.entrypoints.local.circles import refuse_circle
from stillhouse.entrypoints.local.patterns import refuse_patterns
from stillhouse.entrypoints.local.sources import Mistakes, find_sources, known_sources
from stillhouse.errors import StillhouseError
from stillhouse.inference.cpu import reduce_range
from stillhouse.passes.base import Progress, SilentProgress
from stillhouse.passes.models.factory import FACTORY_PATH_VARIABLE
from stillhouse.passes.runner import Machine
from stillhouse.planning.build import build_plan
from stillhouse.planning.manifest import PASSES
from stillhouse.planning.plan import Environment, Pin, Plan
from stillhouse.settings import Settings, load_settings

__all__ = ["ServedBy", "Workspace", "machine", "open_file", "under_token"]

DISTRIBUTIONS = {
    "pytriton": "nvidia-pytriton",
    "sklearn": "scikit-learn",
    "litert_torch": "litert-torch",
    "ai_edge_litert": "ai-edge-litert",
}


@dataclass(frozen=True, slots=True)
class ServedBy:
    """The container that will serve: its image, and its CPU limit in CPUs. It runs on machines like this one."""

    image: str
    cpus: float


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
        return [*self.plan.notes, *advice(self.model, self.env)]

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


def open_file(
    path: Path,
    sources: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    rebuild: str | None = None,
    server: ServedBy | None = None,
    *,
    access: Access | None = None,
    cache: Path | None = None,
    known: Mapping[str, tuple[Resolved, Pin]] | None = None,
    middle: str | None = None,
) -> Workspace:
    """Read a file, bind and pin its sources, and plan it. `progress` is told of the sources: a large one takes long.

    `rebuild` None: the token that the store holds. `server` is the container that will serve, None: a process of this machine.
    `access`: with whose rights sources are fetched (None: those of this machine's user). `cache`: where they are fetched to.
    `known`: they were pinned before, and are not looked at. `middle`: digest of a cascade's model between, where it is known.

    Raises:
        SpecError, SourceError: the file or one of its sources cannot be used; every one, with field and line.
    """
    progress = progress or SilentProgress()
    model, lines = load_with_lines(path)
    base = path.resolve().parent
    settings = load_settings(base, sources)
    store = LocalStore(settings.home)
    bindings = {name: absolute(uri, start) for name, (uri, start) in settings.sources.items()}
    os.environ[FACTORY_PATH_VARIABLE] = os.pathsep.join([str(base), os.environ.get(FACTORY_PATH_VARIABLE, "")])
    mistakes = Mistakes(lines)
    if known is None:
        found = find_sources(model, base, bindings, cache or settings.cache, progress, mistakes, access)
    else:
        found = known_sources(model, base, known, mistakes)
    try:
        refuse_patterns(model, lines)
    except StillhouseError as error:
        mistakes.add(error)
    try:
        refuse_circle(model, path, store, lines)
    except StillhouseError as error:
        mistakes.add(error)
    try:
        between = find_middle(model, store, middle)
    except StillhouseError as error:
        between = None
        mistakes.add(error)
    mistakes.refuse()
    if between is not None:
        found.resolved[between[0].given], found.pins[between[0].given] = between
    env = Environment(
        pins=found.pins,
        toolchain=toolchain(),
        hardware=_measured_on(limits=server is None),
        cpus=float(len(os.sched_getaffinity(0))) if server is None else server.cpus,
        rebuild=_token(store, model.metadata.name) if rebuild is None else rebuild,
        reduce_range=reduce_range(hardware().isa),
        server=None if server is None else {**_measured_on(limits=False), "cpuLimit": server.cpus, "runtimeImage": server.image},
    )
    try:
        plan = _planned(model, env, found.resolved)
    except StillhouseError as error:  # what only the sources' contents show
        mistakes.add(error)
        mistakes.refuse()
        raise
    return Workspace(path.resolve(), model, settings, store, env, plan, found.resolved)


def under_token(work: Workspace) -> Workspace:
    """Return a workspace under the rebuild token that the model has now; the caller holds the model.

    A `rebuild` sets it once the file has been read, and may have held the model while another command waited: under the token
    of before, that command would replace its revision by the old one.
    """
    env = dataclasses.replace(work.env, rebuild=_token(work.store, work.name))
    return work if env == work.env else dataclasses.replace(work, env=env, plan=_planned(work.model, env, work.resolved))


def _token(store: LocalStore, name: str) -> str:
    return str(store.state(name).get("rebuild", ""))


def _planned(model: DistilledModel, env: Environment, resolved: Mapping[str, Resolved]) -> Plan:
    return build_plan(model, env, {uri: each.uri for uri, each in resolved.items()})


def _measured_on(*, limits: bool) -> dict[str, Any]:
    """Return what a measurement depends on. Not the memory: it differs by pages from boot to boot.

    The `limits` of this process do not count where another container serves, and each stage of a build has its own.
    """
    facts = hardware().to_json()
    left_out = {"memory"} if limits else {"memory", "cores", "cpuLimit"}
    return {name: value for name, value in facts.items() if name not in left_out}
