"""The sources of a file: found and pinned, and every one that cannot be used named at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stillhouse.api.explain import line_of
from stillhouse.api.model import DistilledModel, Spec
from stillhouse.clients.sources import Resolved, resolve
from stillhouse.clients.sources.access import unreadable
from stillhouse.clients.sources.digest import DigestCache
from stillhouse.clients.sources.remote.access import Access
from stillhouse.entrypoints.local.facts import data_info, model_info, size_of
from stillhouse.entrypoints.local.limits import beyond
from stillhouse.entrypoints.local.previewing import Seen, lacking, preview, refuse_same
from stillhouse.errors import Problem, StillhouseError
from stillhouse.passes.base import Progress
from stillhouse.passes.models.factory import check_function, search_folders, source_digest
from stillhouse.planning.plan import Pin
from stillhouse.planning.request import data_sources, factories, is_model, uris

__all__ = ["Mistakes", "Sources", "find_sources", "known_sources"]


class Mistakes:
    """Collects what cannot be used, so that one run names it all. `lines`: field → line of the file."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self._lines = lines
        self._first: StillhouseError | None = None
        self._problems: list[Problem] = []

    def add(self, error: StillhouseError, name: Callable[[str], str] = str) -> None:
        """Note an error, whose fields stand in the file where `name` says, each with its line."""
        self._first = self._first or error
        for problem in error.problems:
            field = name(problem.field)
            place = field.partition(" (")[0]  # without the file that it names
            self._problems.append(dataclasses.replace(problem, field=field, line=line_of(place, self._lines)))

    def refuse(self) -> None:
        """Raise the first error with all the others, if there was one.

        Raises:
            StillhouseError: of the first one's kind.
        """
        if self._first is not None:
            raise type(self._first).of(self._problems) from self._first


@dataclass(frozen=True, slots=True)
class Sources:
    """What a file's URIs (and its factories, `factory:TARGET`) point to."""

    resolved: dict[str, Resolved] = field(default_factory=dict)
    pins: dict[str, Pin] = field(default_factory=dict)


def find_sources(
    model: DistilledModel,
    base: Path,
    bindings: Mapping[str, str],
    cache: Path,
    progress: Progress,
    mistakes: Mistakes,
    access: Access | None = None,
) -> Sources:
    """Resolve and pin every source of a model whose file lies in `base`; `mistakes` takes those that cannot be used.

    `access`: with whose rights they are fetched (None: those of this machine's user).
    """
    found = Sources()
    failed: dict[str, StillhouseError] = {}
    for place, uri in uris(model.spec).items():
        try:
            if uri in failed:
                raise failed[uri]
            if uri in found.resolved:
                continue
            found.resolved[uri] = _resolve(uri, base, bindings, cache, progress, access, data=not is_model(place))
        except StillhouseError as error:
            failed[uri] = error
            mistakes.add(error, _around(place))
            continue
        path = found.resolved[uri].path
        info = model_info(path) if is_model(place) else data_info(path)
        found.pins[uri] = Pin(found.resolved[uri].digest, size_of(path), info)
    source = model.spec.source.uri
    there = found.resolved[source].path if source in found.resolved else None
    for wrong in beyond(model.spec, there, found.pins[source].info if there else {}):
        mistakes.add(wrong, lambda field: field if field.startswith("spec.") else f"spec.{field}")
    _look_at_factories(model, base, found, mistakes)
    _look_into(model.spec, found, DigestCache(cache), mistakes)
    return found


def _look_at_factories(model: DistilledModel, base: Path, found: Sources, mistakes: Mistakes) -> None:
    for place, factory in factories(model.spec).items():
        target = factory.target
        try:
            # Where the steps will look as well; the file's folder may be among these already.
            folders = tuple(dict.fromkeys((base, *search_folders())))
            found.pins[f"factory:{target}"] = Pin(source_digest(target, folders, place))
            check_function(target, folders, place)
        except OSError as error:
            mistakes.add(unreadable(error, target, f"{place}.target"))
        except StillhouseError as error:
            mistakes.add(error)


def known_sources(model: DistilledModel, base: Path, known: Mapping[str, tuple[Resolved, Pin]], mistakes: Mistakes) -> Sources:
    """Return the sources of a model as an earlier stage of the same build has pinned them: nothing is fetched or looked into."""
    found = Sources({uri: each for uri, (each, _) in known.items()}, {uri: pin for uri, (_, pin) in known.items()})
    _look_at_factories(model, base, found, mistakes)
    return found


def _look_into(spec: Spec, found: Sources, digests: DigestCache, mistakes: Mistakes) -> None:
    """Look at the data's columns, and at whether it leaks: its import would tell late, and the gate after all training."""
    there = data_sources(spec)
    paths = {place: found.resolved[data.uri].path for place, data in there.items() if data.uri in found.resolved}
    seen: dict[str, Seen | None] = {}
    for place, data in there.items():
        if place not in paths:
            continue
        try:
            seen[place] = preview(place, data, paths[place], spec.source)
        except StillhouseError as error:
            mistakes.add(error, _within(place))
    for lack in lacking(spec, seen):
        mistakes.add(lack)
    try:
        refuse_same(spec, paths, seen, lambda file: digests.sha256(file)[1])
    except StillhouseError as error:
        mistakes.add(error)


def _around(place: str) -> Callable[[str], str]:
    """Return the field of what a URI's resolver found wrong: `place`, with the file that it names."""
    return lambda inner: f"{place} ({inner})" if "/" in inner else place


def _within(place: str) -> Callable[[str], str]:
    """Return the field of what an import would find wrong below `data`, which stands at `place`, or in the source."""
    return lambda inner: f"spec.{inner}" if inner.startswith("source.") else place + inner.removeprefix("data")


def _resolve(
    uri: str, base: Path, bindings: Mapping[str, str], cache: Path, progress: Progress, access: Access | None, *, data: bool
) -> Resolved:
    looking = f"looking at {uri}"
    progress.update(0, None, "", looking)
    report, fetching = _telling(progress, looking), _telling(progress, f"downloading {uri}")
    return resolve(uri, base=base, bindings=bindings, cache=cache, report=report, fetching=fetching, data=data, access=access)


def _telling(progress: Progress, message: str) -> Callable[[int, int], None]:
    """Return what is told how many bytes of a source have come, or have been hashed."""
    return lambda done, total: progress.update(done, total, "bytes", message)
