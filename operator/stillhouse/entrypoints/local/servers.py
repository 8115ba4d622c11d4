"""Servers on this machine: one a model, its record in the store, its successor over the same port."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.clients.store.files import read_sealed, write_sealed
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.locks import hold
from stillhouse.entrypoints.local.orphans import alive, stop_orphans
from stillhouse.entrypoints.local.underway import follow
from stillhouse.errors import StoreError, UsageError
from stillhouse.planning.runtimes import runtime_of
from stillhouse.planning.steps import PRECISION
from stillhouse.settings import Settings
from stillhouse.triton import ports
from stillhouse.triton.handle import ServerHandle, attach

__all__ = ["Running", "find", "last_log", "require", "require_port", "serve", "stop", "stopped_on_purpose", "supervise"]

FIRST_PORT = 8001
PORTS = 100


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs: its handle, the revision and settings that it serves, and who waits for it (0: detached)."""

    handle: ServerHandle
    revision: str
    precision: str
    started: str
    supervisor: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def supervised(self) -> bool:
        """Return whether the `still up` that waits for it still does (it may have been killed)."""
        return bool(self.supervisor) and alive(self.supervisor)

    def to_json(self) -> dict[str, Any]:
        """Return the record, plain JSON data."""
        return {
            "handle": self.handle.to_json(),
            "revision": self.revision,
            "precision": self.precision,
            "started": self.started,
            "supervisor": self.supervisor,
            "settings": dict(self.settings),
        }


def _record(store: LocalStore, name: str) -> Path:
    return store.run_dir(name) / "server.json"


def find(store: LocalStore, name: str) -> Running | None:
    """Return the model's running server; None when there is none (a dead one's record counts as none)."""
    data = read_sealed(_record(store, name))
    if data is None:
        return None
    handle = attach(data["handle"])
    if handle is None:
        return None
    return Running(handle, data["revision"], data["precision"], data["started"], data["supervisor"], data.get("settings", {}))


def last_log(store: LocalStore, name: str) -> Path | None:
    """Return the log of the running or the last server."""
    data = read_sealed(_record(store, name))
    path = Path(data["handle"]["log"]) if data else None
    return path if path and path.is_file() else None


def require(store: LocalStore, name: str) -> Running:
    """Return the running server.

    Raises:
        UsageError: the model is not known, or has no server; whoever builds it at this moment is named.
    """
    running = find(store, name)
    if running is not None:
        return running
    underway = follow(store, name)
    if underway:
        raise UsageError("the model is not being served yet", field="NAME", found=name, fix=underway)
    known = store.model_names()
    if name not in known:
        raise UsageError(
            "there is no such model", field="NAME", found=name, allowed=", ".join(known) or "none yet", fix="still up FILE"
        )
    state = store.state(name)
    file = state.get("file", "FILE")
    fix = (
        f"still up {file}"
        if state.get("steps") or not state.get("revision")
        else f"it came as a file of still pack: still edge {file}, then still ask {name}"
    )
    if (state.get("revision") or {}).get("precision") == PRECISION:
        fix = f"these are steps before another model, which a gateway runs: still edge {file}, then still ask {name}"
    raise UsageError("the model is not being served", field="NAME", found=name, fix=fix)


def serve(
    store: LocalStore,
    settings: Settings,
    name: str,
    revision: Mapping[str, Any],
    *,
    port: int | None,
    supervisor: int,
    time: str,
    note: Callable[[str], None],
) -> tuple[Running, bool]:
    """Serve a revision; return (the server, whether it was started now).

    `port` None: the model's last one, else a free one; 0: any. `time` is RFC 3339; `note` is told what takes a while.
    A server of the same revision and settings is left alone; any other hands its port over once the new one is warm.
    The caller holds the model's lock.

    Raises:
        UsageError: the port is in use.
        ServerError: the server does not start; a former one goes on.
    """
    # Here and not above: `still status` of what does not run needs neither numpy nor grpc, and starts at once.
    from stillhouse.triton.handover import HandOver, hand_over
    from stillhouse.triton.layout import lay_out
    from stillhouse.triton.server import start, trouble

    running = find(store, name)
    stop_orphans(store.run_dir(name), running.handle.pid if running else 0)
    serving, cut = dict(revision["serve"]), revision.get("cut")
    served = {**serving, "cut": cut} if cut else serving
    wrong = trouble(running.handle) if running else ""
    if running and wrong:
        note(f"the server at {running.handle.address} does not do its work ({wrong}); it is replaced ...")
        running.handle.stop(0.0)
        running = None  # its record stays, and with it the port that is taken first
    same = running is not None and running.revision == revision["digest"] and dict(running.settings) == served
    if running and same and port in (None, running.handle.grpc_port):
        return running, False
    problem = store.objects.check(revision["digest"]) or (store.objects.check(cut) if cut else "")
    if problem:
        raise StoreError(
            f"the revision is damaged: {problem}", field=name, fix=f"build it again: still up {store.state(name).get('file')}"
        )
    folder = store.run_dir(name)
    repository = folder / ("repository-" + revision["digest"][7:19] + (f"-{cut[7:19]}" if cut else ""))
    moving = running is not None and port in (None, running.handle.grpc_port)
    options = lay_out(
        store.objects.opened(revision["digest"]),
        repository,
        model=name,
        digest=revision["digest"],
        precision=revision["precision"],
        serve=serving,
        runtime_name=runtime_of(serving),
        pinned=True,
        cut=store.objects.opened(cut) if cut else None,
        run_folder=folder,
        cache_folder=settings.cache,
        grpc_port=0 if moving else port or 0,
    )

    def record(handle: ServerHandle) -> Running:
        found = Running(handle, revision["digest"], revision["precision"], time, supervisor, served)
        write_sealed(_record(store, name), found.to_json(), tmp=store.tmp)
        return found

    def switched(done: HandOver) -> None:
        record(done.new)

    if running and moving:
        note(f"starting the server beside {running.revision[7:19]}, which then hands {running.handle.address} over ...")
        try:
            found = record(hand_over(running.handle, options, on_switch=switched))
        except BaseException:
            current = find(store, name)
            if current and current.handle.pid != running.handle.pid:
                running.handle.stop(2.0)  # interrupted while its last connections ended: nobody would stop it later
            raise
    else:
        note("starting the server ...")
        # One start at a time: of two models that both find a port free, the second sees the first's server.
        with hold(store.root / "locks" / "ports.lock"):
            free = options if port is not None else dataclasses.replace(options, grpc_port=_free_port(store, name))
            found = record(start(free))
        if running:
            running.handle.stop()
    for old in folder.glob("repository-*"):
        if old != repository:
            shutil.rmtree(old, ignore_errors=True)
    for log in sorted(folder.glob("triton-*.log"), key=lambda path: path.stat().st_mtime)[:-5]:
        log.unlink(missing_ok=True)
    return found, True


def require_port(store: LocalStore, name: str, port: int | None) -> None:
    """Check, before anything is built, that the port that was asked for is free or the model's own.

    Raises:
        UsageError: somebody else holds it.
    """
    running = find(store, name)
    if port and not (running and running.handle.grpc_port == port):
        ports.require_free("127.0.0.1", port)


def _free_port(store: LocalStore, name: str) -> int:
    """Return the port that the model had last, else the first free one from 8001 up."""
    last = read_sealed(_record(store, name))
    wanted = [int(last["handle"]["grpc_port"])] if last else []
    choices: list[int] = [*wanted, *range(FIRST_PORT, FIRST_PORT + PORTS)]
    for port in choices:
        try:
            ports.require_free("127.0.0.1", port)
        except UsageError:
            continue
        return port
    raise UsageError("no port is free", field="--port", allowed=f"{FIRST_PORT} to {FIRST_PORT + PORTS - 1}", fix="--port 0")


def stop(store: LocalStore, name: str, *, orphans: bool = True) -> Running | None:
    """Stop the model's server and (for whoever holds the model's lock) those that nobody knows of; return the former."""
    running = find(store, name)
    if running is not None:
        write_sealed(_record(store, name), {**running.to_json(), "stopped": True}, tmp=store.tmp)
        running.handle.stop()
    if orphans:
        stop_orphans(store.run_dir(name), 0)
    return running


def supervise(store: LocalStore, name: str, running: Running, supervisor: int) -> Running:
    """Record who waits for a server from now on."""
    found = dataclasses.replace(running, supervisor=supervisor)
    write_sealed(_record(store, name), found.to_json(), tmp=store.tmp)
    return found


def stopped_on_purpose(store: LocalStore, name: str) -> bool:
    """Return whether the last server was stopped by `still down`."""
    data = read_sealed(_record(store, name))
    return data is not None and bool(data.get("stopped"))
