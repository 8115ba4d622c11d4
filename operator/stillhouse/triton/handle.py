"""A running server, as a record that outlives the process that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import ServerError
from stillhouse.triton.birth import runs

__all__ = ["ServerHandle", "attach"]

_LOG_LINES = 20
_RUNNING = "it is running"
_COLLECT_S = 10.0
_LINE_WIDTH = 400
# Triton 2.51 says this when every request under way is answered. What follows is the unloading of its instances, a
# second each, in which it answers NOT_FOUND to living connections: there is nothing more to wait for.
_NOTHING_UNDER_WAY = "All models are stopped, unloading models"
_FLUSH_S = 0.1  # for the last answers to leave the process
_ends: dict[tuple[int, str], str] = {}
"""How the servers of this process ended, by process id and birth: several places ask, and only the first can collect it."""
_asking = threading.Lock()


@dataclass(frozen=True, slots=True)
class ServerHandle:
    """One Triton process. `birth` (`stillhouse.triton.birth`) tells it from a later one of that pid.

    `server_id` is what the server answers to a metadata request. Ports of None are turned off. `backends` is how many
    processes of the backend ran when the server was ready.
    """

    pid: int
    birth: str
    host: str
    grpc_port: int
    http_port: int | None
    metrics_port: int | None
    log: str
    model: str
    digest: str
    server_id: str
    backends: int = 0

    @property
    def address(self) -> str:
        """Host and port of the gRPC endpoint."""
        return f"{self.host}:{self.grpc_port}"

    def to_json(self) -> dict[str, Any]:
        """Return the record, plain JSON data."""
        return asdict(self)

    def alive(self) -> bool:
        """Return whether this very process is running."""
        return runs(self.pid, self.birth)

    def check(self) -> None:
        """Raise if the server, or a process of its backend, has died.

        Triton 2.51 does not start a backend's process again: the requests dealt to it fail, a second each, while the
        server goes on saying that it is ready.

        Raises:
            ServerError: with the exit status, where it is known, and the last lines of the log.
        """
        if not self.alive():
            raise self.death(self._status())
        running = self.count_backends()
        if running < self.backends:
            raise ServerError(
                f"{self.backends - running} of {self.backends} backend processes of {self.model} died",
                field=self.address,
                found=self._last_words(),
                fix=f"start it again: still down {self.model}; still up FILE (out of memory? fewer serve.instances)",
            )

    def _status(self) -> str:
        """Return how it ended. A process whose last threads are still going cannot be collected yet: wait a moment for it.

        On a machine that is busy the moment is long: gigabytes are given back by a process that gets little of it.
        """
        status = self._reap()
        deadline = time.monotonic() + _COLLECT_S
        while status == _RUNNING and time.monotonic() < deadline:
            time.sleep(0.01)
            status = self._reap()
        return status

    def count_backends(self) -> int:
        """Return how many processes of the backend are running now."""
        import psutil

        try:
            children = psutil.Process(self.pid).children()
            return sum(1 for child in children if child.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return 0

    def death(self, status: str) -> ServerError:
        """Return the error that says how the server ended and what it said last."""
        return ServerError(
            f"the server of {self.model} is not running any more ({status})",
            field=self.address,
            found=self._last_words(),
            fix=f"still logs {self.model}; start it again: still up FILE",
        )

    def _last_words(self) -> str:
        """Return the log's last lines without the tables of options, in which the reason would drown."""
        lines = [line for line in self.tail(200) if not line.startswith("+")]
        lines = [line for line in lines if not line.startswith("|") or "UNAVAILABLE" in line]
        shown = [f"    {line[:_LINE_WIDTH].rstrip()}" for line in lines if line.strip()][-_LOG_LINES:]
        return "\n".join(["the last lines of its log:", *shown]) if shown else "nothing in its log"

    def tail(self, lines: int = _LOG_LINES) -> list[str]:
        """Return the log's last lines, at most 64 KiB of them."""
        try:
            with Path(self.log).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - (64 << 10)))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return text.splitlines()[-lines:]

    def stop(self, grace_s: float = 15.0) -> bool:
        """Stop the server: SIGTERM lets it finish what is under way, after `grace_s` seconds it is killed (0: at once).

        Returns:
            Whether everything under way was answered (True also when the server was gone already).
        """
        if not self.alive():
            self._reap()
            self.clean_up()
            return True
        if grace_s > 0:
            _signal(self.pid, signal.SIGTERM)
        finished = self._wait(grace_s, lambda: not self.alive() or self._has_finished())
        if finished:
            time.sleep(_FLUSH_S)
        if self.alive():
            _signal(self.pid, signal.SIGKILL)
            self._wait(5.0, lambda: not self.alive())
        # Its main thread is dead, a zombie, before the last of its threads are: only then can a parent collect it.
        self._wait(5.0, lambda: self._reap() != _RUNNING)
        self.clean_up()
        return finished

    def clean_up(self) -> None:
        """Remove what a killed or crashed server of this id left behind: backend processes and shared memory."""
        if self.alive():
            return
        for process in _backends(self.server_id):
            process.kill()
        for region in Path("/dev/shm").glob(f"{self.server_id}.*"):  # noqa: S108 - named by us, not guessable
            region.unlink(missing_ok=True)

    def _has_finished(self) -> bool:
        return any(_NOTHING_UNDER_WAY in line for line in self.tail(5))

    def _reap(self) -> str:
        """Return what `_collect` says; the kernel gives an exit status once, who asks again is told the same."""
        with _asking:
            known = _ends.get((self.pid, self.birth)) or _collect(self.pid)
            if known != _RUNNING:
                _ends[(self.pid, self.birth)] = known
            return known

    def _wait(self, seconds: float, until: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            self._reap()
            if until():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def attach(record: dict[str, Any]) -> ServerHandle | None:
    """Return the handle of a record that `to_json` made, or None when that process is gone.

    Raises:
        ServerError: the record is not one.
    """
    try:
        handle = ServerHandle(**record)
    except TypeError as error:
        raise ServerError("the record of a running server is not readable", found=str(error)) from error
    return handle if handle.alive() else None


def _backends(server_id: str) -> list[Any]:
    """Return the backend's processes of a server: the name of its shared memory is among their arguments."""
    import psutil

    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if words and words[0].endswith("triton_python_backend_stub") and any(server_id in word for word in words):
            found.append(process)
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _collect(pid: int) -> str:
    """Collect the exit status when it is our child; say what it was."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return "exit status not known: another process started it"
    if not done:
        return _RUNNING
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"killed by signal {signal.Signals(-code).name}"
    return f"exit status {code}"
