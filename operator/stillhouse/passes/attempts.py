"""How long a step took over all its attempts: what an interrupted one has left in the scratch was paid for as well."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from stillhouse.clients.store.files import read_json, write_json
from stillhouse.errors import StillhouseError

__all__ = ["ATTEMPTS_FILE", "carried", "earlier"]

ATTEMPTS_FILE = ".attempts.json"


def carried(scratch: Path) -> bool:
    """Return whether an earlier attempt left anything to go on from. Changes nothing."""
    return scratch.is_dir() and any(path.name != ATTEMPTS_FILE for path in scratch.iterdir())


@contextlib.contextmanager
def earlier(scratch: Path, tmp: Path) -> Iterator[float]:
    """Yield the seconds of the attempts that `scratch` carries work of; an attempt that does not end well is added to them.

    Nothing carried: 0, whatever was tried before. A killed attempt could not write its end: it counts up to the last
    thing that it wrote into `scratch`. `tmp` is a folder on the same file system.
    """
    path = scratch / ATTEMPTS_FILE
    before = _seconds(read_json(path), scratch) if carried(scratch) else 0.0
    write_json(path, {"seconds": before, "started": time.time()}, tmp=tmp)
    clock = time.monotonic()
    try:
        yield before
    except BaseException:
        with contextlib.suppress(StillhouseError, OSError):  # a full disk, for one: the error that is under way counts
            write_json(path, {"seconds": before + time.monotonic() - clock}, tmp=tmp)
        raise


def _seconds(record: object, scratch: Path) -> float:
    """Return what a record says; nothing where it says nothing that can be used."""
    if not isinstance(record, dict) or not isinstance(record.get("seconds"), int | float):
        return 0.0
    seconds, started = float(record["seconds"]), record.get("started")
    if isinstance(started, int | float):
        written = [path.lstat().st_mtime for path in scratch.rglob("*") if path.name != ATTEMPTS_FILE]
        seconds += max(0.0, max(written, default=0.0) - started)
    return seconds
