"""Starts a prepared gateway: in the place of this process, or beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge.preparing import Prepared
from stillhouse.entrypoints.edge.record import Gateway, find, path
from stillhouse.errors import MissingPackages, ServerError, UsageError, UserError
from stillhouse.extras import install, lacking

__all__ = ["become", "detach", "log_of", "require_packages"]

_START_S = 30.0
_POLL_S = 0.05
_LINES = 20
_LOG_BYTES = 4 << 20


def require_packages() -> None:
    """Look for what the gateway needs before anything is written.

    Raises:
        MissingPackages: a package of the extra `gateway` is missing.
    """
    if missing := lacking("gateway"):
        raise MissingPackages("the gateway's packages are missing", found=", ".join(missing), fix=install("gateway"))


def become(store: LocalStore, prepared: Prepared) -> NoReturn:
    """Go on as the gateway: nothing of this command stays in memory, and a signal meets the gateway itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, _arguments(store, prepared), _environment())  # noqa: S606 - ours


def detach(store: LocalStore, prepared: Prepared) -> Gateway:
    """Start the gateway in a session of its own, and wait until it listens.

    Raises:
        UsageError: it found a mistake of the user's. ServerError: it ended, or does not listen. Both with the last lines of its
            log.
    """
    log = log_of(store, prepared.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    _set_aside(log)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            _arguments(store, prepared),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(),
        )
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        found = find(store, prepared.name)
        if found is not None and found.pid == process.pid:
            return found
        if process.poll() is not None:
            break
        time.sleep(_POLL_S)
    else:
        process.terminate()
    words = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
    kind = UsageError if process.poll() == UserError.exit_code else ServerError
    raise kind("the gateway did not start", field=prepared.name, found="\n           ".join(words), fix=f"its log: {log}")


def _set_aside(log: Path) -> None:
    """Keep the log of the gateway before this one, its end where it is long: it may say why that one ended."""
    former = log.with_name(f"{log.name}.1")
    try:
        if not log.stat().st_size:
            return
        log.replace(former)
        size = former.stat().st_size
        if size > _LOG_BYTES:
            with former.open("rb") as stream:
                stream.seek(size - _LOG_BYTES)
                stream.readline()
                rest = stream.read()
            former.write_bytes(rest)
    except FileNotFoundError:
        pass


def log_of(store: LocalStore, name: str) -> Path:
    """Return the log of a gateway that was started with --detach."""
    return store.run_dir(name) / "gateway.log"


def _arguments(store: LocalStore, prepared: Prepared) -> list[str]:
    module = "stillhouse.entrypoints.gateway"
    return [sys.executable, "-m", module, "--config", str(prepared.config), "--record", str(path(store, prepared.name))]


def _environment() -> dict[str, str]:
    # The model has its own threads; those of numpy's library would be one a CPU and serve nobody.
    return {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **os.environ}
