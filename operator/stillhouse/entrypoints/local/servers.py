"""Servers on this machine: one a model, its record in the store, its successor over the same port."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.clients.store.files import read_json, write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import StoreError, UsageError
from stillhouse.passes.evaluate.candidate import serve_settings, view
from stillhouse.settings import Settings
from stillhouse.triton import ports
from stillhouse.triton.handover import hand_over
from stillhouse.triton.placement import place
from stillhouse.triton.repository import render
from stillhouse.triton.runtimes import runtime
from stillhouse.triton.server import ServerHandle, ServerOptions, attach, start
from stillhouse.triton.writer import write

__all__ = ["Running", "find", "last_log", "require", "serve", "stop", "stopped_on_purpose"]

FIRST_PORT = 8001
PORTS = 100


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs: its handle, the revision that it serves, and who waits for it (0: detached)."""

    handle: ServerHandle
    revision: str
    precision: str
    started: str
    supervisor: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the record, plain JSON data."""
        return {
            "handle": self.handle.to_json(),
            "revision": self.revision,
            "precision": self.precision,
            "started": self.started,
            "supervisor": self.supervisor,
        }


def _record(store: LocalStore, name: str) -> Path:
    return store.run_dir(name) / "server.json"


def find(store: LocalStore, name: str) -> Running | None:
    """Return the model's running server; None when there is none (a dead one's record counts as none)."""
    data = read_json(_record(store, name))
    if not isinstance(data, dict):
        return None
    handle = attach(data["handle"])
    return Running(handle, data["revision"], data["precision"], data["started"], data["supervisor"]) if handle else None


def last_log(store: LocalStore, name: str) -> Path | None:
    """Return the log of the running or the last server."""
    data = read_json(_record(store, name))
    path = Path(data["handle"]["log"]) if isinstance(data, dict) else None
    return path if path and path.is_file() else None


def require(store: LocalStore, name: str) -> Running:
    """Return the running server.

    Raises:
        UsageError: the model is not known, or has no server.
    """
    running = find(store, name)
    if running is not None:
        return running
    known = store.model_names()
    if name not in known:
        raise UsageError(
            "there is no such model", field="NAME", found=name, allowed=", ".join(known) or "none yet", fix="still up FILE"
        )
    file = store.state(name).get("file", "FILE")
    raise UsageError("the model is not being served", field="NAME", found=name, fix=f"still up {file}")


def serve(
    store: LocalStore,
    settings: Settings,
    name: str,
    revision: Mapping[str, Any],
    *,
    port: int | None,
    supervisor: int,
    time: str,
) -> tuple[Running, bool]:
    """Serve a revision; return (the server, whether it was started now).

    A server of the same revision is left alone; one of another revision hands its port over once the new one is warm.

    Raises:
        UsageError: the port is in use.
        ServerError: the server does not start; a former one goes on.
    """
    running = find(store, name)
    if running and running.revision == revision["digest"] and port in (None, running.handle.grpc_port):
        return running, False
    problem = store.objects.check(revision["digest"])
    if problem:
        raise StoreError(
            f"the revision is damaged: {problem}", field=name, fix=f"build it again: still up {store.state(name).get('file')}"
        )
    serving = dict(revision["serve"])
    placement = place(serving["cpus"])
    folder = store.run_dir(name)
    repository = folder / ("repository-" + revision["digest"][7:19])
    artifact = store.objects.path(revision["digest"])
    write(
        render(
            view(artifact, name, revision["digest"], revision["precision"]),
            runtime("triton-ort-cpu"),
            serve_settings(serving),
            placement.cpus,
        ),
        repository,
    )
    moving = running is not None and port in (None, running.handle.grpc_port)
    options = ServerOptions(
        model=name,
        repository=repository,
        run_folder=folder,
        cache_folder=settings.cache,
        grpc_port=0 if moving else port or _free_port(store, name),
        digest=revision["digest"],
        cpus=placement.server,
    )
    handle = hand_over(running.handle, options) if running and moving else start(options)
    found = Running(handle, revision["digest"], revision["precision"], time, supervisor)
    write_json(_record(store, name), found.to_json(), tmp=store.tmp)
    if running and not moving:
        running.handle.stop()
    for old in folder.glob("repository-*"):
        if old != repository:
            shutil.rmtree(old, ignore_errors=True)
    for log in sorted(folder.glob("triton-*.log"), key=lambda path: path.stat().st_mtime)[:-5]:
        log.unlink(missing_ok=True)
    return found, True


def _free_port(store: LocalStore, name: str) -> int:
    """Return the port that the model had last, else the first free one from 8001 up."""
    last = read_json(_record(store, name))
    wanted = [int(last["handle"]["grpc_port"])] if isinstance(last, dict) else []
    for port in [*wanted, *range(FIRST_PORT, FIRST_PORT + PORTS)]:
        try:
            ports.require_free("127.0.0.1", port)
        except UsageError:
            continue
        return port
    raise UsageError("no port is free", field="--port", allowed=f"{FIRST_PORT} to {FIRST_PORT + PORTS - 1}", fix="--port 0")


def stop(store: LocalStore, name: str) -> Running | None:
    """Stop the model's server; return what was stopped."""
    running = find(store, name)
    if running is not None:
        write_json(_record(store, name), {**running.to_json(), "stopped": True}, tmp=store.tmp)
        running.handle.stop()
    return running


def stopped_on_purpose(store: LocalStore, name: str) -> bool:
    """Return whether the last server was stopped by `still down`."""
    data = read_json(_record(store, name))
    return isinstance(data, dict) and bool(data.get("stopped"))
