"""Files from a network into a folder of the cache.

What is there stays, what was begun goes on, what is whole is renamed into place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.clients.sources.packing import expand, is_packed, plain_name, twins
from stillhouse.clients.sources.selection import is_used
from stillhouse.clients.store.files import disk_full, fsync_dir
from stillhouse.clients.store.locks import hold
from stillhouse.digests import content_hash, hash_file
from stillhouse.errors import EnvironmentProblem, SourceError, UnsafeSource
from stillhouse.sizes import size as in_words

__all__ = ["MAX_FILES", "Changed", "Listing", "RemoteFile", "fetch", "too_large"]

MAX_FILES = 20_000
_BLOCK = 1 << 20
_ATTEMPTS = 5
_TOGETHER = "whole"
Report = Callable[[int, int], None]


class Changed(Exception):
    """The file is another one than was listed."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a source.

    `size` in bytes, `version` changes when its contents do ("" where its server has no such thing), `sha256` in hex where it is
    known beforehand. `open(offset)` yields where it begins (the offset, or 0 where the server knows no ranges) and blocks of
    bytes; it raises `Changed`, and errors of the network as `OSError` or `EnvironmentProblem`.
    """

    size: int
    version: str
    open: Callable[[int], contextlib.AbstractContextManager[tuple[int, Iterator[bytes]]]]
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a URI names: relative path → file. `single` is the one that is meant, where the source is a file and no folder.

    `pinned` is the URI with what is fixed of it.
    """

    place: str
    files: Mapping[str, RemoteFile]
    pinned: str
    single: str = ""


def fetch(listing: Listing, cache: Path, uri: str, limit: int, report: Report | None = None) -> Path:
    """Bring a listing's files; return their folder, or the single file.

    `cache` is a folder that outlives this process, so that a download can go on; `limit` the bytes of a whole source.

    Raises:
        SourceError: too large, changed meanwhile, or not the bytes that were promised.
        UnsafeSource: a name leads out of the folder.
        EnvironmentProblem: the connection breaks again and again, or the disk is full.
    """
    files = _chosen(listing, uri, limit)
    key = content_hash([listing.place, {name: [file.size, file.version, file.sha256] for name, file in files.items()}])[:32]
    folder = cache / "fetched" / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold(folder.with_suffix(".lock")):
            if folder.is_dir() and not all(file.version or file.sha256 for file in files.values()):
                shutil.rmtree(folder)  # nobody knows whether this is what is there now
            if not folder.is_dir():
                _bring(files, folder, uri, limit, report)
    except OSError as error:
        if disk_full(error):
            raise EnvironmentProblem(
                "the disk is full",
                field=str(cache),
                found=f"{uri}: {error}"[:300],
                fix="free space there, then run the command again",
            ) from error
        raise EnvironmentProblem(
            "the download cache cannot be written",
            field=str(cache),
            found=str(error)[:300],
            fix="give this user the right to write there",
        ) from error
    return folder / listing.single if listing.single else folder


def _chosen(listing: Listing, uri: str, limit: int) -> dict[str, RemoteFile]:
    """Return the files that are used, checked before the first byte comes."""
    for name in listing.files:
        if name.startswith("/") or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise UnsafeSource(
                "the name of a file leads out of its folder", field="uri", found=f"{uri}: {name}"[:300], allowed="FOLDER/FILE"
            )
    double = twins(listing.files)
    files = {
        name: file
        for name, file in listing.files.items()
        if (plain_name(name) == listing.single or is_used(plain_name(name))) and name not in double
    }
    total = sum(file.size for file in files.values())
    pickles = [name for name in listing.files if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]
    if not files and pickles:
        raise UnsafeSource(
            "the weights are there as a pickle only, which can run code when it is read",
            field="uri",
            found=f"{uri}: {', '.join(pickles[:4])}",
            allowed="model.safetensors, or a .onnx file",
            fix="convert it where you trust it",
        )
    if not files or len(files) > MAX_FILES:
        raise SourceError(
            "nothing is there that can be used" if not files else "there are too many files",
            field="uri",
            found=f"{uri}: {', '.join(sorted(listing.files)[:8]) or 'nothing'}" if not files else f"{uri}: {len(files)}",
            allowed="safetensors with config.json and tokenizer.json, .onnx, .parquet, .jsonl or .csv"
            if not files
            else f"at most {MAX_FILES}",
            fix="name the folder that holds the model or the data",
        )
    if total > limit:
        raise too_large(uri, total, limit)
    return dict(sorted(files.items()))


def too_large(uri: str, total: int, limit: int) -> SourceError:
    """Return the refusal of a source of more bytes than the limit."""
    return SourceError(
        "the source is larger than is fetched",
        field="uri",
        found=f"{uri}: {in_words(total)}",
        allowed=f"at most {in_words(limit)}",
        fix="take a part of it, or ask the administrator: value fetching.maxSize of the chart",
    )


def _bring(files: Mapping[str, RemoteFile], folder: Path, uri: str, limit: int, report: Report | None) -> None:
    aside = folder.with_suffix(".part")
    total = sum(file.size for file in files.values())
    before = 0
    for name, file in files.items():
        path = aside / _TOGETHER / name
        arrived = path.is_file() and path.stat().st_size == file.size
        if is_packed(name) and (aside / _TOGETHER / plain_name(name)).is_file():
            arrived = True  # and unpacked, before an earlier attempt ended
        if not arrived:
            part = aside / content_hash(name)[:32]
            _one(file, part, f"{uri}: {name}", _Told(report, before, total))
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
        before += file.size
        if report is not None:
            report(before, total)
    _unpack(aside / _TOGETHER, files, uri, limit)
    for inner, _, _ in os.walk(aside / _TOGETHER):
        fsync_dir(Path(inner))
    (aside / _TOGETHER).replace(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _unpack(folder: Path, files: Mapping[str, RemoteFile], uri: str, limit: int) -> None:
    """Put plain files in the place of compressed ones; all of them together have at most `limit` bytes."""
    left = limit - sum((folder / name).stat().st_size for name in files if not is_packed(name))
    for name in filter(is_packed, files):
        plain = folder / plain_name(name)
        if not plain.is_file():
            expand(folder / name, plain, max(0, left), f"{uri}: {name}")
        (folder / name).unlink(missing_ok=True)
        left -= plain.stat().st_size


class _Told:
    """Tells of the bytes of all files together."""

    def __init__(self, report: Report | None, before: int, total: int) -> None:
        self._report, self._before, self._total = report, before, total

    def __call__(self, done: int) -> None:
        if self._report is not None:
            self._report(self._before + done, self._total)


def _one(file: RemoteFile, part: Path, what: str, told: Callable[[int], None]) -> None:
    """Bring one file to `part`, from where an earlier attempt has left it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if part.exists() and (part.stat().st_size > file.size or not (file.version or file.sha256)):
        part.unlink()  # without a version nobody knows whether the rest belongs to this beginning
    failures = 0
    while True:
        start = part.stat().st_size if part.exists() else 0
        if start == file.size and part.exists():
            break
        try:
            _continue(file, part, start, told)
        except Changed:
            part.unlink(missing_ok=True)
            raise SourceError(
                "the source was changed while it was fetched",
                field="uri",
                found=what,
                allowed="a source that stays as it is",
                fix="let whatever writes it finish, then run the command again",
            ) from None
        except (EnvironmentProblem, ConnectionError, TimeoutError) as error:
            reached = part.stat().st_size if part.exists() else 0
            failures = 1 if reached > start else failures + 1
            if failures >= _ATTEMPTS:
                raise EnvironmentProblem(
                    "the download breaks off again and again",
                    field="uri",
                    found=f"{what} after {in_words(reached)}: {error}"[:300],
                    fix="check the connection, then run the command again: it goes on from there",
                ) from error
            time.sleep(min(0.2 * 2**failures, 5.0))
    found = hash_file(part, sync=True)[1]
    if file.sha256 and found != file.sha256:
        part.unlink()
        raise SourceError(
            "the file is not the one that was promised",
            field="uri",
            found=f"{what}: sha256:{found}",
            allowed=f"sha256:{file.sha256}",
            fix="was it changed, or damaged on the way? publish it again, with its digest",
        )


def _continue(file: RemoteFile, part: Path, start: int, told: Callable[[int], None]) -> None:
    with file.open(start) as (begins, blocks):
        with part.open("r+b" if begins else "wb") as out:
            out.seek(begins)
            done = begins
            for block in blocks:
                done += len(block)
                if done > file.size:
                    raise Changed
                out.write(block)
                told(done)
        if done < file.size:
            raise ConnectionError(f"the connection ended after {done} of {file.size} bytes")


def blocks_of(raw: Any) -> Iterator[bytes]:
    """Yield the body of urllib3's answer; what breaks it off is a `ConnectionError`."""
    import urllib3.exceptions as wrong

    try:
        yield from raw.stream(_BLOCK, decode_content=False)
    except (wrong.HTTPError, OSError) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}"[:200]) from error


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()
