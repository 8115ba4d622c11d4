"""Writes a rendered repository: aside, fsynced, renamed, so that a server never sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from stillhouse.errors import StoreError
from stillhouse.triton.repository import LinkTo, Repository

__all__ = ["write"]


def write(repository: Repository, folder: Path) -> None:
    """Write `repository` to `folder`, in place of what was there.

    The artifact's files become hard links where the file system allows it and copies elsewhere: the repository stays
    whole when the store lets the artifact go.

    Raises:
        StoreError: the disk is full, the folder cannot be written, or a file of the artifact is gone.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, entry in repository.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry, LinkTo):
                _link(entry.source, path)
            else:
                with path.open("wb") as file:
                    file.write(entry)
                    file.flush()
                    os.fsync(file.fileno())
        aside.chmod(0o755)  # mkdtemp makes it private; a server under another user id must be able to read it
        _swap(aside, folder)
    except OSError as error:
        raise StoreError(
            "the model repository cannot be written",
            field=str(folder),
            found=str(error),
            fix="free disk space (still gc) or choose another folder with STILLHOUSE_HOME",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    real = source.resolve(strict=True)
    try:
        os.link(real, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(real, target)


def _swap(aside: Path, folder: Path) -> None:
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        try:
            folder.rename(old / "repository")
            aside.rename(folder)
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        aside.rename(folder)
    handle = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
