"""Samples for the next training: what the small model was not sure of, and where it was wrong, with the larger model's answer.

`samples-N.jsonl`, readable as `spec.distill.data`: the inputs by their role, `label`, `confidence`, `leg` ("cloud": the row was
escalated; "edge": the edge had answered otherwise). Files are private (0600) and belong to one process. The oldest is deleted so
that all together never have more than they may. A line that a killed process left half written is cut off at the next start.
Nothing of an input goes to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import math
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stillhouse.edge.agreement.settings import Collecting
from stillhouse.edge.guard.audit.files import write_all
from stillhouse.edge.guard.patterns import Patterns
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.errors import StoreError

__all__ = ["Collector", "Kept", "Samples", "redacted_by"]

_NAME = re.compile(r"samples-(\d{16})\.jsonl", re.ASCII)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """One row. `inputs`: role → text, or numbers as nested lists (float32 [channels][height][width] of an image)."""

    inputs: Mapping[str, Any]
    label: str
    confidence: float
    leg: Literal["cloud", "edge"]

    @property
    def size(self) -> int:
        """Return about how many bytes it keeps alive; numbers count as their text would."""
        return 100 + sum(_size(value) for value in self.inputs.values())

    def line(self, redact: Callable[[str], str | None]) -> bytes | None:
        """Return it as a line, with texts as `redact` lets them pass; None where it lets one not pass."""
        told: dict[str, Any] = {}
        for role, value in self.inputs.items():
            told[role] = redact(value) if isinstance(value, str) else value
            if told[role] is None:
                return None
        told |= {"label": self.label, "confidence": self.confidence if math.isfinite(self.confidence) else None, "leg": self.leg}
        text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace") + b"\n"


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(map(_size, value)) if isinstance(value, Sequence) else 10


def redacted_by(patterns: Patterns | None) -> Callable[[str], str | None]:
    """Return what the guard's patterns make of a text: masked, or None where a pattern refuses it."""

    def redact(text: str) -> str | None:
        if patterns is None:
            return text
        found = patterns.screen(text)
        return None if isinstance(found, Refusal) else found.text

    return redact


class Samples:
    """The files. Not for several threads at once.

    Raises:
        StoreError: another process has the folder, or it cannot be used.
    """

    def __init__(self, collecting: Collecting) -> None:
        self._folder, self._most = collecting.folder, collecting.most_bytes
        self._file_most = min(collecting.file_bytes, collecting.most_bytes)
        self._descriptor = self._lock = -1
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sizes = {file: file.stat().st_size for file in sorted(self._folder.iterdir()) if _NAME.fullmatch(file.name)}
            self._mend()
            self._shrink(0)
        except OSError as error:
            self.close()
            busy = isinstance(error, BlockingIOError)
            raise StoreError(
                "another process collects samples here" if busy else "samples cannot be collected here",
                field="collecting.folder",
                found=f"{self._folder}: {error.strerror}",
                fix="give each process a folder of its own" if busy else "check the folder's owner and its disk",
            ) from error

    @property
    def size(self) -> int:
        """How many bytes the files have."""
        return sum(self._sizes.values())

    @property
    def files(self) -> list[Path]:
        """The files, the oldest first."""
        return list(self._sizes)

    def append(self, line: bytes) -> bool:
        """Write a line; False where it is longer than a file may be. A line that was not written whole is taken back.

        Raises:
            OSError: it cannot be written.
        """
        if len(line) > self._file_most:
            return False
        current = next(reversed(self._sizes), None)
        if current is None or self._sizes[current] + len(line) > self._file_most:
            self._close_file()
            current = self._next(current)
            self._sizes[current] = 0
        self._shrink(len(line))
        if self._descriptor < 0:
            self._descriptor = os.open(current, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            write_all(self._descriptor, line)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._sizes[current])
                if not self._sizes[current]:
                    self._close_file()
                    self._delete(current)
            raise
        self._sizes[current] += len(line)
        return True

    def clear(self) -> None:
        """Delete all files.

        Raises:
            OSError: one cannot be deleted.
        """
        self._close_file()
        for file in list(self._sizes):
            self._delete(file)

    def close(self) -> None:
        """Give the folder free."""
        self._close_file()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _next(self, current: Path | None) -> Path:
        found = _NAME.fullmatch(current.name) if current is not None else None
        return self._folder / f"samples-{int(found[1]) + 1 if found else 1:016}.jsonl"

    def _shrink(self, more: int) -> None:
        while self.size + more > self._most:
            file = next(iter(self._sizes))
            if len(self._sizes) == 1 and self._sizes[file] == 0:
                return
            self._delete(file)

    def _delete(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        del self._sizes[file]

    def _mend(self) -> None:
        """Cut every file after its last whole record. Only the newest can be torn, unless the machine itself stopped."""
        for file in list(self._sizes):
            whole = 0
            with file.open("r+b") as stream:
                for line in stream:
                    if not line.endswith(b"\n") or not _is_record(line):
                        break
                    whole += len(line)
                if whole < self._sizes[file]:
                    _log.warning("%s: %d bytes behind the last whole sample are cut off", file.name, self._sizes[file] - whole)
                    stream.truncate(whole)
            self._sizes[file] = whole
            if not whole:  # who reads the folder takes an empty file for a mistake
                self._delete(file)

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


class Collector:
    """Takes samples from the loop and writes them in a thread.

    `outcomes`: how many were kept, full (no room to wait), refused (by a pattern), long (more than a file may have), failed.
    """

    def __init__(self, collecting: Collecting, redact: Callable[[str], str | None]) -> None:
        """Open the folder.

        Raises:
            StoreError: it cannot be used.
        """
        self._collecting, self._redact = collecting, redact
        self.samples = Samples(collecting)
        self._waiting: deque[tuple[Kept, int]] = deque()
        self._bytes = 0
        self.outcomes: Counter[str] = Counter()

    def offer(self, kept: Kept) -> None:
        """Take a sample, or count that there was no room. Does not wait."""
        size = kept.size
        if self._bytes + size > self._collecting.waiting_bytes:
            self.outcomes["full"] += 1
            return
        self._waiting.append((kept, size))
        self._bytes += size

    async def run(self) -> None:
        """Write until cancelled; what waits then is still written, and the folder given free."""
        try:
            while True:
                await asyncio.sleep(self._collecting.every)
                if self._waiting:
                    writing = asyncio.ensure_future(asyncio.to_thread(self._write, self._batch()))
                    try:
                        await asyncio.shield(writing)
                    finally:
                        await writing  # the files are for one thread at a time, at the end too
        finally:
            self._write(self._batch())
            self.samples.close()

    def _batch(self) -> list[Kept]:
        batch = [kept for kept, _ in self._waiting]
        self._waiting.clear()
        self._bytes = 0
        return batch

    def _write(self, batch: list[Kept]) -> None:
        for kept in batch:
            try:
                line = kept.line(self._redact)
                if line is None:
                    self.outcomes["refused"] += 1
                else:
                    self.outcomes["kept" if self.samples.append(line) else "long"] += 1
            except Exception as error:
                if not self.outcomes["failed"]:
                    _log.warning("a sample could not be kept: %s", type(error).__name__)  # its message may quote the input
                self.outcomes["failed"] += 1
