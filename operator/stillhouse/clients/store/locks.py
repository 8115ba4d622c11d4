"""Advisory locks that the kernel releases when their holder dies (flock(2)), so `kill -9` leaves nothing locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from stillhouse.clients.store.files import disk_errors

__all__ = ["Busy", "hold", "holder"]

# `holder` has a lock for some microseconds. Who finds it taken looks again before believing it.
_LOOKS = 5
_BETWEEN_LOOKS_S = 0.01
_WAIT_S = 0.1


class Busy(Exception):
    """Somebody else holds the lock; `holder` is what they wrote into it (their process id)."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(holder)


@contextlib.contextmanager
def hold(
    path: Path,
    *,
    shared: bool = False,
    wait: bool = True,
    on_wait: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold the lock at `path`; `on_wait` is called once, with the holder, before waiting.

    Raises:
        Busy: `wait` is False and somebody else holds it.
        StoreError: the file system does not let us lock it.
    """
    looks = 0
    while (handle := _take(path, shared=shared)) is None:
        looks += 1
        if looks < _LOOKS:
            time.sleep(_BETWEEN_LOOKS_S)
            continue
        if not wait:
            raise Busy(_written(path))
        if looks == _LOOKS and on_wait is not None:
            on_wait(_written(path))
        time.sleep(_WAIT_S)
    try:
        if not shared:
            # Only for whoever waits to read; on a full disk `still gc` must be able to lock all the same.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(path: Path) -> str | None:
    """Return what the one that holds the lock alone wrote into it, None when there is nobody.

    Nothing is written and nobody is kept out, so a look is for everyone who may read the store. A lock that may not even
    be read counts as held by nobody.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written(path)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(handle)
    return None


def _take(path: Path, *, shared: bool) -> int | None:
    """Return the locked file's handle, None while somebody else has it."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                if _still_there(handle, path):
                    return handle
            except BlockingIOError:
                os.close(handle)
                return None
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)  # `still gc` removed the file between open and flock: lock the new one


def _written(path: Path) -> str:
    try:
        return path.read_bytes()[:64].decode(errors="replace").strip()
    except OSError:
        return ""


def _still_there(handle: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(handle)
    return (named.st_ino, named.st_dev) == (held.st_ino, held.st_dev)
