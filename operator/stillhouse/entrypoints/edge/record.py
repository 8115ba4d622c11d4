"""The record of a gateway that runs on this machine: it writes it itself when it listens, and removes it when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.clients.store.files import read_sealed, write_sealed
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.locks import Busy, hold
from stillhouse.errors import UsageError
from stillhouse.triton.birth import birth, runs

__all__ = ["Gateway", "alone", "find", "killed", "path", "refuse_second", "remove", "require", "running", "write"]

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway: its process, where it listens (`grpc`, `rest`, `metrics` → HOST:PORT), and the configuration that it has."""

    name: str
    pid: int
    born: str
    listen: Mapping[str, str]
    config: str
    tls: bool = False

    @property
    def alive(self) -> bool:
        """Return whether it runs."""
        return runs(self.pid, self.born)

    def stop(self, patience_s: float, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Ask it to end and wait; return whether it has. What is under way has the gateway's own time to end."""
        if not self.alive:
            return True
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + patience_s
        while self.alive and time.monotonic() < until:
            sleep(_POLL_S)
        return not self.alive


def path(store: LocalStore, name: str) -> Path:
    """Return where the record of a model's gateway lies."""
    return store.run_dir(name) / "gateway.json"


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold a record for as long as this process runs: of two that are started at once, one could not be found by it later.

    Raises:
        UsageError: another process holds it.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(hold(file.with_suffix(".lock"), wait=False))
        except Busy as error:
            raise UsageError(
                "a gateway of this model runs already",
                field="--record",
                found=f"{file}: process {error.holder}",
                fix="still edge status shows it, still edge stop NAME ends it",
            ) from error
        yield


def write(file: Path, name: str, listen: Mapping[str, str], config: str, *, tls: bool) -> None:
    """Write the record of this process."""
    pid = os.getpid()
    data = {"name": name, "pid": pid, "born": birth(pid), "listen": dict(listen), "config": config, "tls": tls}
    write_sealed(file, data, tmp=file.parent)


def remove(file: Path) -> None:
    """Remove the record of this process; that of a successor stays."""
    found = _read(file)
    if found is not None and found.pid == os.getpid():
        file.unlink(missing_ok=True)


def find(store: LocalStore, name: str) -> Gateway | None:
    """Return the model's gateway that runs, None where none does."""
    found = _read(path(store, name))
    return found if found is not None and found.alive else None


def running(store: LocalStore) -> list[Gateway]:
    """Return every gateway that runs here."""
    return [each for each in _recorded(store) if each.alive]


def killed(store: LocalStore) -> list[Gateway]:
    """Return those that have ended without removing their record, as they do when they are asked to end."""
    return [each for each in _recorded(store) if not each.alive]


def _recorded(store: LocalStore) -> Iterator[Gateway]:
    for file in sorted((store.root / "run").glob("*/gateway.json")):
        if (found := _read(file)) is not None:
            yield found


def refuse_second(store: LocalStore, name: str) -> None:
    """Refuse a second gateway of a model: the queue on disk has one owner.

    Raises:
        UsageError: one runs.
    """
    found = find(store, name)
    if found is not None:
        raise UsageError(
            "a gateway of this model runs already",
            field="FILE",
            found=f"process {found.pid} at {found.listen.get('grpc', '')}",
            fix=f"still edge stop {name}, or still edge status",
        )


def require(store: LocalStore, name: str) -> Gateway:
    """Return the model's gateway.

    Raises:
        UsageError: none runs; those that do are named.
    """
    found = find(store, name)
    if found is None:
        others = ", ".join(each.name for each in running(store))
        raise UsageError(
            "no gateway of this model runs here",
            field="NAME",
            found=name,
            allowed=others or "none runs",
            fix="still edge FILE starts one; still infer asks the model's own server",
        )
    return found


def _read(file: Path) -> Gateway | None:
    data: dict[str, Any] | None = read_sealed(file)
    return None if data is None else Gateway(**data)
