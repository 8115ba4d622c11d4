"""The files of a log: `audit-SEQ.jsonl`, named for their first record, so that names tell the order and what is missing."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "LOCK",
    "LONGEST_LINE",
    "being_written",
    "digest_from",
    "first_line",
    "first_seq",
    "last_line",
    "lines",
    "listing",
    "lock",
    "name",
    "sync_folder",
    "write_all",
]

LOCK = "audit.lock"
LONGEST_LINE = 1 << 20
_NAME = re.compile(r"audit-(\d{16})\.jsonl", re.ASCII)
_BLOCK = 1 << 16
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, process


def name(seq: int) -> str:
    """Return the name of the file whose first record is `seq`."""
    return f"audit-{seq:016}.jsonl"


def first_seq(file: Path) -> int | None:
    """Return the number in a file's name; None where it has another name."""
    found = _NAME.fullmatch(file.name)
    return int(found[1]) if found else None


def listing(folder: Path) -> list[Path]:
    """Return the files of a log in their order.

    Raises:
        OSError: the folder cannot be read.
    """
    return sorted(each for each in folder.iterdir() if _NAME.fullmatch(each.name))


def lines(file: Path) -> Iterator[bytes]:
    """Yield lines with their newlines. Of one that no record is as long as, only the beginning comes, with no newline.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which would never end.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(file))
        while line := stream.readline(LONGEST_LINE):
            yield line
            while len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_LINE)


def first_line(file: Path) -> bytes:
    """Return the first line; empty where there is none.

    Raises:
        OSError: it cannot be read.
    """
    return next(lines(file), b"")


def last_line(descriptor: int) -> tuple[bytes, int]:
    """Return the last whole line of an open file, and where it ends. What follows is a torn one.

    Raises:
        OSError: it cannot be read.
    """
    at = os.fstat(descriptor).st_size
    tail = b""
    end = 0
    while at > 0:
        start = max(0, at - _BLOCK)
        block = os.pread(descriptor, at - start, start)
        at = start
        if end:
            tail = block + tail
        elif (found := block.rfind(b"\n")) >= 0:
            end = start + found + 1
            tail = block[: found + 1]
        found = tail.rfind(b"\n", 0, len(tail) - 1) if tail else -1
        if found >= 0 or len(tail) > LONGEST_LINE + _BLOCK:
            return tail[found + 1 :], end
    return tail, end


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk.

    Raises:
        OSError: it cannot be done.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`.

    Raises:
        OSError: some of it may be written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def digest_from(descriptor: int, start: int) -> str:
    """Return the SHA-256, in hex, of an open file from `start` on.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    while block := os.pread(descriptor, _BLOCK, start):
        digest.update(block)
        start += len(block)
    return digest.hexdigest()


def lock(folder: Path) -> int:
    """Return an open file that holds the log for its opener; -1 where another holds it. It ends with the process.

    Raises:
        OSError: the folder cannot be written.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK))
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return -1
        raise
    return descriptor


def being_written(folder: Path) -> bool:
    """Say whether a process has the log open. It only asks: a lock, held for a moment, could be in the way of one that starts."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_RDLCK))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    kind: int = _FLOCK.unpack(found)[0]
    return kind != fcntl.F_UNLCK


def _flock(kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)
