"""What is uploaded of a source: exactly the files that its digest is over, each with size and SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stillhouse.clients.sources.digest import DigestCache, listing_digest
from stillhouse.clients.sources.packing import SUFFIX, WORTH
from stillhouse.clients.sources.resolve import pushed_folder
from stillhouse.clients.sources.selection import PATTERNS, is_used, used_files
from stillhouse.clients.store import zstd
from stillhouse.digests import hash_file
from stillhouse.errors import SourceError, UnsafeSource

__all__ = ["Bundle", "Item", "Pushed", "Report", "Target", "bundle_of", "compressed"]

Report = Callable[[int, int], None]
_SMALLEST = 64 << 10
"""Bytes below which a file travels as it is: a request costs more than it would save."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file: where it lies here, its bytes, and its SHA-256 in hex."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A source. `single` is its name where it is a file and no folder; a .onnx file has others beside it all the same."""

    digest: str
    files: Mapping[str, Item]
    single: str = ""

    @property
    def folder(self) -> str:
        """Return the name of the folder that it is put into."""
        return pushed_folder(self.digest)

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(each.size for each in self.files.values())


@dataclass(frozen=True, slots=True)
class Pushed:
    """Where a source is now, and how many bytes of it were not there before."""

    uri: str
    sent: int


class Target(Protocol):
    """A place that sources are put into. What is there already is not sent again, and what broke off goes on."""

    def push(self, bundle: Bundle, report: Report) -> Pushed:
        """Put a source there; `report` is told bytes done (sent, or found there) and bytes in all.

        Raises:
            StillhouseError: the place does not take it.
        """


def bundle_of(path: Path, uri: str, digest: str, cache: Path | None) -> Bundle:
    """Return what is to be uploaded of a resolved source.

    Raises:
        UnsafeSource: a link leads out of its folder, or a file is none that a source may consist of.
        SourceError: it is not what it was when it was resolved.
    """
    folder = path if path.is_dir() else path.parent
    digests = DigestCache(cache)
    items = {}
    for name, file in used_files(path).items():
        if not is_used(name):
            raise UnsafeSource(
                "such a file is no part of a model or of data",
                field="uri",
                found=f"{uri}: {name}",
                allowed=", ".join(PATTERNS),
                fix="code and pickles stay here: convert weights to safetensors, rows to Parquet",
            )
        if file.is_symlink() and not _stays(file, folder):
            raise UnsafeSource(
                "a link leads out of the source's folder",
                field="uri",
                found=f"{uri}: {name} → {file.resolve()}"[:300],
                allowed="files, and links that stay inside the folder",
                fix="replace the link by what it names",
            )
        size, sha256 = digests.sha256(file)
        items[name] = Item(file.resolve(), size, sha256)
    digests.save()
    found = listing_digest({name: (each.size, each.sha256) for name, each in items.items()})
    if found != digest:
        raise SourceError(
            "the source was changed while it was read", field="uri", found=f"{uri}: {found}", allowed=digest, fix="run it again"
        )
    return Bundle(digest, items, single="" if path.is_dir() else path.name)


def compressed(bundle: Bundle, scratch: Path, report: Report) -> Bundle:
    """Return the bundle as it travels: files that get a tenth smaller are written compressed into `scratch`. The digest stays.

    `report` is told plain bytes looked at, and plain bytes in all.

    Raises:
        SourceError: a file was changed meanwhile. MissingPackages: zstandard is not installed.
        OSError: the disk is full.
    """
    items, done = {}, 0
    for number, (name, item) in enumerate(bundle.files.items()):

        def told(count: int, before: int = done) -> None:
            report(before + count, bundle.size)

        smaller = _smaller(item, scratch / str(number), told)
        items[name if smaller is None else name + SUFFIX] = smaller or item
        done += item.size
        report(done, bundle.size)
    return Bundle(bundle.digest, items, bundle.single)


def _smaller(item: Item, target: Path, told: Callable[[int], None]) -> Item | None:
    """Return a file in its compressed form; None where that does not save a tenth."""
    if item.size < _SMALLEST or zstd.promise(item.path) < WORTH:
        return None
    plain = hashlib.sha256()
    with item.path.open("rb") as source, target.open("wb") as out:
        size, stored = zstd.compress(source, out, told, seen=plain.update)
    if (size, plain.hexdigest()) != (item.size, item.sha256):
        raise SourceError(
            "the file was changed while it was sent",
            field=str(item.path),
            found=plain.hexdigest(),
            allowed=item.sha256,
            fix="run it again",
        )
    if stored > (1 - WORTH) * size:
        target.unlink()
        return None
    return Item(target, stored, hash_file(target)[1])


def _stays(file: Path, folder: Path) -> bool:
    real, root = file.resolve(), folder.resolve()
    blobs = root.parent.parent / "blobs"  # the hub's cache links there
    hub = root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--")
    return real.is_relative_to(root) or (hub and real.is_relative_to(blobs))
