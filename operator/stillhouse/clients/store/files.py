"""Writing so that a reader sees all of a file or nothing, also after a power cut: aside, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from stillhouse.digests import content_digest
from stillhouse.errors import StoreError, StoreFull

__all__ = ["disk_errors", "disk_full", "fsync_dir", "full", "make_dirs", "read_json", "read_sealed", "write_json", "write_sealed"]

_WAYS_OUT = (
    ((errno.EACCES, errno.EPERM, errno.EROFS), "give this user the right to {verb} there"),
    # A file, or a link that leads nowhere or in a circle, stands where a folder of the store belongs.
    ((errno.ENOTDIR, errno.EEXIST, errno.ELOOP), "move away what stands where the store's folder belongs"),
    ((errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS), "choose a file system that can lock files, as a local disk does"),
)


def fsync_dir(path: Path) -> None:
    """Make a directory's entries (renames, new names) durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_dirs(path: Path) -> None:
    """Make a directory and those above it; every new name is durable afterwards."""
    if path.is_dir():
        return
    make_dirs(path.parent)
    path.mkdir(exist_ok=True)
    fsync_dir(path.parent)


def disk_full(error: BaseException) -> bool:
    """Return whether an error, or what caused it, is a full disk or quota; libraries in C++ and Rust say so in words."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if any(sign in str(seen) for sign in ("No space left on device", "os error 28", "Disk quota exceeded")):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextlib.contextmanager
def disk_errors(what: Path, purpose: Literal["read", "written"] = "written") -> Iterator[None]:
    """Turn what the file system refuses into a `StoreError` that says the way out.

    Put it around the store's own reading and writing only: around somebody's code it would blame the store for every
    file that they may not read.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # no file gives it: whoever was told of the progress has gone
    except OSError as error:
        if disk_full(error):
            raise full(what, error) from error
        raise _refused(what, error, purpose) from error


def _refused(what: Path, error: OSError, purpose: Literal["read", "written"]) -> StoreError:
    verb = {"read": "read", "written": "write"}[purpose]
    way = next((way for numbers, way in _WAYS_OUT if error.errno in numbers), "look after the disk (dmesg may say more)")
    return StoreError(
        f"the store cannot be {purpose}",
        field=str(error.filename or what),
        found=error.strerror or str(error),
        fix=f"{way.format(verb=verb)}, or put the store elsewhere: STILLHOUSE_HOME=/path",
    )


def full(what: Path, error: BaseException) -> StoreError:
    """Return the error that says that the disk is full."""
    told = (error.strerror if isinstance(error, OSError) else "") or next(iter(str(error).splitlines()), "")
    if getattr(error, "errno", 0) == errno.EFBIG:
        return StoreError("no file may become so large", field=str(what), found=told, fix="raise the limit: ulimit -f unlimited")
    return StoreFull(
        "the disk is full",
        field=str(what),
        found=told,
        fix="free space with `still gc`, or put the store elsewhere: STILLHOUSE_HOME=/path; finished steps are kept",
    )


def write_json(path: Path, data: Any, *, tmp: Path) -> None:
    """Write `data` to `path` atomically and durably; `tmp` is a directory on the same file system."""
    with disk_errors(path):
        make_dirs(path.parent)
        make_dirs(tmp)
        handle, name = tempfile.mkstemp(dir=tmp, prefix="json-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(data, stream, indent=1, sort_keys=True, allow_nan=False)
                stream.write("\n")
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        fsync_dir(path.parent)


def read_json(path: Path) -> Any | None:
    """Return the JSON data of a file; None when it is missing or not readable as JSON (then it counts as not written).

    Raises:
        StoreError: it is there, and this user may not read it, or the disk does not give it.
    """
    with disk_errors(path, "read"):
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
            return None


def write_sealed(path: Path, data: Mapping[str, Any], *, tmp: Path) -> None:
    """Write a record as `write_json` does, with a digest over itself that `read_sealed` asks for."""
    plain = {name: value for name, value in data.items() if name != "digest"}
    write_json(path, {**plain, "digest": content_digest(plain)}, tmp=tmp)


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return a record that `write_sealed` wrote; None when it is missing, or not as it was written.

    Whoever reads it need not look at every field: half of another record, or what somebody typed, counts as not written.

    Raises:
        StoreError: as `read_json`.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        return None
    plain = {name: value for name, value in data.items() if name != "digest"}
    try:
        return plain if data.get("digest") == content_digest(plain) else None
    except ValueError:  # NaN, which Python's parser takes and JSON does not know
        return None
