"""The log on disk: opened, its torn end cut off, records appended, files rotated, the oldest removed. For one thread.

What a record says about the log itself (all others are the caller's):

| kind | when | data |
|---|---|---|
| `file` | a file is begun | format, the file before |
| `start` | the log is opened | nothing |
| `recovered` | opening found an unfinished end | file, bytes that were cut off, their SHA-256 |
| `removed` | before old files are deleted | `through`: their last record, and its `hash`; files |
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.edge.guard.audit.files import (
    LONGEST_LINE,
    digest_from,
    first_line,
    last_line,
    listing,
    lock,
    name,
    sync_folder,
    write_all,
)
from stillhouse.edge.guard.audit.records import GENESIS, BadRecord, Key, Record, encode, parse, stamp
from stillhouse.edge.guard.audit.rotation import Rotation
from stillhouse.errors import StoreError

__all__ = ["FORMAT", "Chain", "Entry"]

FORMAT = 1
CHUNK = 1 << 20
"""Bytes that are written at a time, about."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded. `time`: seconds of the wall clock."""

    time: float
    kind: str
    data: dict[str, Any]


class Chain:
    """A log that is open for writing; no other process can open it meanwhile."""

    def __init__(
        self, folder: Path, *, key: Key | None = None, rotation: Rotation | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Open a log, or begin one.

        Raises:
            StoreError: another process has it open, its last record is damaged or of another key, or it cannot be written.
        """
        self._folder = folder
        self._key = key
        self._rotation = rotation or Rotation()
        self._clock = clock
        self._seq, self._head = 0, GENESIS
        self._file = -1
        self._size = 0
        self._torn = False
        self._begun = clock()
        self._lock = -1
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = lock(folder)
            if self._lock < 0:
                fix = "give each process a folder of its own"
                raise StoreError("another process writes the audit log", found=str(folder), fix=fix)
            self._open()
        except OSError as error:
            self.close()
            raise StoreError("the audit log cannot be opened", found=f"{folder}: {error.strerror or error}") from error
        except StoreError:
            self.close()
            raise

    @property
    def head(self) -> tuple[int, str]:
        """Sequence number and hash of the last record."""
        return self._seq, self._head

    def append(self, entries: deque[Entry]) -> None:
        """Write entries; each is taken from the left once it is in the file. What cannot be written is left there.

        Raises:
            OSError: the disk is full, or the like; the same call may be made again.
        """
        while entries:
            if self._file < 0 or self._rotation.full(self._size, self._clock() - self._begun):
                self._rotate(entries[0].time)
            self._write(entries)

    def sync(self) -> None:
        """Put what was written on disk.

        Raises:
            OSError: it cannot be done.
        """
        if self._file >= 0:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Close the file and let others open the log. What was not synced is left to the system."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._file = self._lock = -1

    def _open(self) -> None:
        """Find the last record, cut off what is behind it, and tell so."""
        now = self._clock()
        told: deque[Entry] = deque()
        files = listing(self._folder)
        while files and self._file < 0:
            file = files.pop()
            descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                line, end = last_line(descriptor)
                size = os.fstat(descriptor).st_size
                if size > end or not line:
                    told.append(
                        Entry(now, "recovered", {"file": file.name, "bytes": size - end, "sha256": digest_from(descriptor, end)})
                    )
                if line:
                    last = self._trusted(file, line)
                    self._seq, self._head = last.seq, last.hash
                    os.ftruncate(descriptor, end)
                    os.fsync(descriptor)
                    self._file, self._size = descriptor, end
                    with contextlib.suppress(BadRecord):
                        self._begun = parse(first_line(file)).seconds
            finally:
                if self._file != descriptor:
                    os.close(descriptor)
            if not line:  # it was just begun: nothing of it was ever in the chain
                file.unlink()
                sync_folder(self._folder)
        told.append(Entry(now, "start", {}))
        self.append(told)
        self.sync()
        self._remove(now)

    def _trusted(self, file: Path, line: bytes) -> Record:
        """Return the record in the last whole line.

        Raises:
            StoreError: it is damaged, or not of our key.
        """
        fix = f"see what happened: still audit verify {self._folder}; a new log begins in an empty folder"
        try:
            record = parse(line)
        except BadRecord as error:
            raise StoreError("the audit log is damaged", found=f"{file}, last record: {error}", fix=fix) from None
        if bool(record.mac) != (self._key is not None):
            found = "written with a key" if record.mac else "written without a key"
            raise StoreError(
                "the audit log has records of another key",
                found=f"{file}: {found}, and now there is {'none' if record.mac else 'one'}",
                fix=f"give the key that it was written with (or none), or move {self._folder} away: a new log begins there",
            )
        if self._key is not None and not record.genuine(self._key):
            raise StoreError("the audit log's last record is not of this key", found=str(file), fix=fix)
        return record

    def _write(self, entries: deque[Entry]) -> None:
        """Write some of the entries, as many as the file takes."""
        seq, head = self._seq, self._head
        written: list[bytes] = []
        size = 0
        room = max(1, min(CHUNK, self._rotation.size - self._size))
        for entry in entries:
            line, head = _line(seq + 1, entry, head, self._key)
            seq += 1
            written.append(line)
            size += len(line)
            if size >= room:
                break
        self._put(b"".join(written))
        self._size += size
        self._seq, self._head = seq, head
        for _ in written:
            entries.popleft()

    def _put(self, data: bytes) -> None:
        """Write all of it, or leave the file as it was; where even that fails, the next call begins with it."""
        self._mend()
        try:
            write_all(self._file, data)
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                self._mend()
            raise

    def _mend(self) -> None:
        """Cut off what a failed write has left."""
        if self._torn:
            os.ftruncate(self._file, self._size)
            self._torn = False

    def _rotate(self, now: float) -> None:
        """Begin a file. The one before stays in use until the new one has its first record.

        `now` is the time of what made it necessary: records have waited in a queue, and times that go back mean a clock that did.
        """
        before = self._file
        if before >= 0:
            self._mend()
            self.sync()
        path = self._folder / name(self._seq + 1)
        previous = listing(self._folder)
        data = {"format": FORMAT, "previous": previous[-1].name if previous else ""}
        line, head = _line(self._seq + 1, Entry(now, "file", data), self._head, self._key)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, line)
            os.fsync(descriptor)
            sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._file, self._size, self._torn = descriptor, len(line), False
        self._seq, self._head = self._seq + 1, head
        self._begun = now
        if before >= 0:
            os.close(before)
        self._remove(now)

    def _remove(self, now: float) -> None:
        """Delete files beyond what is kept. First a record that says so is on disk: the rest can be verified without them."""
        surplus = self._rotation.surplus(listing(self._folder), now)
        if surplus is None:
            return
        files, after = surplus
        data = {"through": after.seq - 1, "hash": after.prev, "files": [file.name for file in files]}
        self._write(deque([Entry(now, "removed", data)]))
        self.sync()
        for file in files:
            file.unlink(missing_ok=True)
        sync_folder(self._folder)


def _line(seq: int, entry: Entry, prev: str, key: Key | None) -> tuple[bytes, str]:
    """Encode an entry; one that no record can hold is told as that, since its place in the log is its own."""
    try:
        line, digest = encode(seq, stamp(entry.time), entry.kind, entry.data, prev, key)
        if len(line) < LONGEST_LINE:
            return line, digest
        why = f"{len(line)} bytes"
    except (ValueError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"[:200].encode("ascii", "replace").decode()
    return encode(seq, stamp(entry.time), "unwritable", {"kind": entry.kind[:64], "why": why}, prev, key)
