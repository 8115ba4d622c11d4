"""A temporary folder that is removed when its owner is done, or by the next run when the owner was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["owned_temporary_folder"]

_OWNER = "owner.lock"


@contextmanager
def owned_temporary_folder(prefix: str, clean: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield a new folder `<tmp>/<prefix>-…`, readable by this user alone, and remove it afterwards.

    A lock inside is held while the owner lives. Folders of the same prefix whose lock is free are what killed owners
    left, and are removed first, each after `clean` has ended what belongs to it.
    """
    _remove_abandoned(prefix, clean)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    lock = os.open(folder / f"{_OWNER}.new", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        # Locked before it gets the name that others look for, so that nobody sees it free in between.
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / f"{_OWNER}.new").rename(folder / _OWNER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(prefix: str, clean: Callable[[Path], None] | None) -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"{prefix}-*/{_OWNER}"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except OSError:  # gone meanwhile, or another user's
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if clean is not None:
                clean(lock.parent)
            shutil.rmtree(lock.parent, ignore_errors=True)
        except BlockingIOError:  # its owner lives
            pass
        finally:
            os.close(descriptor)
