"""`still push`: what a file names on this machine, to where a cluster sees it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.api.load import load_with_lines
from stillhouse.clients.sources import Resolved, absolute
from stillhouse.clients.sources.push.bundle import Target, bundle_of, compressed
from stillhouse.entrypoints.local.sources import Mistakes, find_sources
from stillhouse.errors import SourceError, UsageError
from stillhouse.passes.runner import Listener
from stillhouse.planning.request import uris
from stillhouse.settings import Settings, load_settings

__all__ = ["Found", "Placed", "check_place", "find", "target_of", "upload"]

_HERE = ("file", "package")
_PLACES = "pvc://CLAIM[/PREFIX], s3://BUCKET[/PREFIX], oci://REGISTRY/REPOSITORY"


@dataclass(frozen=True, slots=True)
class Found:
    """A model's name, what its named sources are here, and the settings of the file's folder."""

    model: str
    sources: Mapping[str, Resolved]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Placed:
    """One named source: where a cluster finds it, its digest, its bytes, and how many of them had to be sent."""

    name: str
    uri: str
    digest: str
    size: int = 0
    sent: int = 0
    uploaded: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return what `-o json` prints."""
        return {part: getattr(self, part) for part in ("name", "uri", "digest", "size", "sent", "uploaded")}


def find(file: Path, sources: Mapping[str, str], listener: Listener) -> Found:
    """Resolve every URI of a file as `still up` does here.

    Raises:
        SpecError, SourceError: the file or a source cannot be used, or a source has no name that could be bound elsewhere.
    """
    model, lines = load_with_lines(file)
    base = file.resolve().parent
    settings = load_settings(base, sources)
    bindings = {name: absolute(uri, start) for name, (uri, start) in settings.sources.items()}
    mistakes = Mistakes(lines)
    with listener.busy("sources") as progress:
        found = find_sources(model, base, bindings, settings.cache, progress, mistakes)
    for place, uri in uris(model.spec).items():
        if uri in found.resolved and "://" in found.resolved[uri].uri and not _is_name(uri) and _is_here(found.resolved[uri]):
            mistakes.add(
                SourceError(
                    "a place on this machine stands in the file, where nothing can be bound to it",
                    field=place,
                    found=uri,
                    allowed="models:NAME or data:NAME",
                    fix=f'write a name there, and in stillhouse.yaml beside the file sources: {{"data:NAME": "{uri}"}}',
                )
            )
    mistakes.refuse()
    named = {uri: each for uri, each in found.resolved.items() if _is_name(uri)}
    return Found(model.metadata.name, named, settings)


@contextlib.contextmanager
def target_of(to: str, context: str, namespace: str, image: str, told: Callable[[str], None]) -> Iterator[Target]:
    """Yield the place that `--to` names. `image` and `told`: see `claims.beside`.

    Raises:
        UsageError: it is no place.
        StillhouseError: its URI is wrong, a package is missing, or the claim's pod does not come up.
    """
    if to.startswith("pvc://"):
        from stillhouse.clients.sources.push.pvc import ClaimTarget, parse_claim
        from stillhouse.entrypoints.remote.claims import beside

        with beside(parse_claim(to)[0], context, namespace, image, told) as shell:
            yield ClaimTarget(shell, to)
    else:
        yield _bucket_or_registry(to)


def check_place(to: str) -> None:
    """Look at what `--to` says before anything is read or made.

    Raises:
        StillhouseError: it is no place, or a package is missing.
    """
    if to.startswith("pvc://"):
        from stillhouse.clients.sources.push.pvc import parse_claim

        parse_claim(to)
    else:
        _bucket_or_registry(to)


def _bucket_or_registry(to: str) -> Target:
    from stillhouse.clients.sources.remote.access import of_user
    from stillhouse.clients.sources.remote.web import Web

    scheme = to.partition("://")[0]
    if scheme == "s3":
        from stillhouse.clients.sources.push.s3 import S3Target

        return S3Target(Web(of_user().rules), to)
    if scheme == "oci":
        from stillhouse.clients.sources.push.oci import OciTarget

        return OciTarget(Web(of_user().rules), to)
    raise UsageError("nothing can be pushed there", field="--to", found=to, allowed=_PLACES, fix="name one of these")


def upload(found: Found, target: Target, listener: Listener) -> list[Placed]:
    """Put every source that lies here into a place; one that lies in a network already stays where it is, pinned.

    Raises:
        StillhouseError: the place does not take one.
    """
    placed = []
    for name, source in found.sources.items():
        if not _is_here(source):
            placed.append(Placed(name, source.uri, source.digest, uploaded=False))
            continue
        bundle = bundle_of(source.fetch(), name, source.digest, found.settings.cache)
        with listener.busy(f"push {name}") as progress, tempfile.TemporaryDirectory(prefix="still-push-") as scratch:

            def told(done: int, total: int, progress: Any = progress, name: str = name) -> None:
                progress.update(done, total, "bytes", f"uploading {name}")

            def shrinking(done: int, total: int, progress: Any = progress, name: str = name) -> None:
                progress.update(done, total, "bytes", f"compressing {name}")

            pushed = target.push(compressed(bundle, Path(scratch), shrinking), told)
        placed.append(Placed(name, pushed.uri, source.digest, bundle.size, pushed.sent))
    return placed


def _is_name(uri: str) -> bool:
    return "://" not in uri and uri.partition(":")[0] in ("models", "data")


def _is_here(source: Resolved) -> bool:
    return source.uri.partition("://")[0] in _HERE
