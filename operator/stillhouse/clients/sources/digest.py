"""Digest of what a URI points to, and a cache so that the same bytes are not read at every command.

digest = `sha256:` over the canonical JSON `[[relative path, size, sha256 of the content], …]`, sorted by path. The cache
believes a file unchanged while its path, size, times of modification and of change (ns) and inode are: as git does. The time
of change is the one that nobody can set: a file rewritten in place whose modification time was put back is another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stillhouse.clients.sources.selection import used_files
from stillhouse.digests import content_digest, hash_file

__all__ = ["DigestCache", "digest_of"]

_LIMIT = 20_000
"""Entries kept; the oldest go first."""


class DigestCache:
    """A small JSON file in `folder`. Damage or a lost race costs a hash, never a wrong digest.

    Two processes may write it at once: each writes aside and renames, the later one wins.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "digests.json" if folder is not None else None
        self._known: dict[str, Any] = {}
        self._changed = False
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError):
                data = json.loads(self._path.read_bytes())
                self._known = data if isinstance(data, dict) else {}

    def sha256(self, path: Path, report: Callable[[int], None] | None = None) -> tuple[int, str]:
        """Return (size, hex digest) of a file; `report` is told the bytes read so far, where they have to be read.

        Raises:
            OSError: it cannot be read.
        """
        real = path.resolve()
        before = real.stat()
        key = str(real)
        stamp = _stamp(before)
        known = self._known.get(key)
        # An entry of another length is of an earlier version, which knew less of the file: it is not believed.
        if isinstance(known, list) and known[:-1] == stamp and isinstance(known[-1], str):
            return before.st_size, known[-1]
        digest = hash_file(real, report=report)[1]
        after = real.stat()
        # A file written to while it was read is not remembered: its time stamp may not change again.
        if _stamp(after) == stamp:
            self._known.pop(key, None)
            self._known[key] = [*stamp, digest]
            self._changed = True
        return after.st_size, digest

    def save(self) -> None:
        """Write what was learned; a folder that cannot be written to is no error."""
        if self._path is None or not self._changed:
            return
        entries = dict(list(self._known.items())[-_LIMIT:])
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".digests-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file)
            Path(name).replace(self._path)
        self._changed = False


def _stamp(state: os.stat_result) -> list[int]:
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def digest_of(path: Path, cache: DigestCache | None = None, report: Callable[[int, int], None] | None = None) -> str:
    """Return the digest of what is used of a file or folder; `report` is told bytes done and bytes in all.

    Raises:
        SourceError: the folder holds nothing that is used.
        OSError: a file cannot be read.
    """
    files = used_files(path)
    cache = cache or DigestCache(None)
    total = sum(file.stat().st_size for file in files.values())
    rows: list[list[Any]] = []
    done = 0

    def reading(size: int) -> None:
        if report is not None:
            report(done + size, total)

    for name, file in files.items():
        size, digest = cache.sha256(file, reading)
        rows.append([name, size, digest])
        done += size
        reading(0)
    cache.save()
    return listing_digest({name: (size, digest) for name, size, digest in rows})


def listing_digest(files: Mapping[str, tuple[int, str]]) -> str:
    """Return the digest of a listing: relative path → (size, hex sha256)."""
    return content_digest([[name, size, digest] for name, (size, digest) in sorted(files.items())])
