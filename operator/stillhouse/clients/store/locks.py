"""Advisory locks that the kernel releases when their holder dies (flock(2)), so `kill -9` leaves nothing locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Busy", "hold"]


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
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    told = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 64, 0).decode(errors="replace").strip()
            os.close(handle)
            if not wait:
                raise Busy(holder) from None
            if not told and on_wait is not None:
                on_wait(holder)
                told = True
            time.sleep(0.1)
            continue
        except BaseException:
            os.close(handle)
            raise
        if _still_there(handle, path):
            break
        os.close(handle)  # `still gc` removed the file between open and flock: lock the new one
    try:
        if not shared:
            # Only for whoever waits to read; on a full disk `still gc` must be able to lock all the same.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _still_there(handle: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(handle)
    return (named.st_ino, named.st_dev) == (held.st_ino, held.st_dev)
