"""Servers under test: start on loopback, wait until ready, count the CPU time of the whole tree, stop by pid."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol

import psutil

from bench.harness.errors import BenchError
from bench.harness.paths import ROOT, cache_folder

Ready = Callable[[int], bool]  # port → the server answers


class Server(Protocol):
    """What a measurement needs of a running server."""

    @property
    def address(self) -> str:
        """Loopback `host:port` that takes the load."""
        ...

    def cpu_seconds(self) -> float:
        """User and system time of the whole process tree so far, in seconds."""
        ...

    def stop(self) -> None:
        """End it; a second call does nothing."""
        ...


def free_port() -> int:
    """Find a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_port(port: int) -> bool:
    """Return whether something listens at a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def http_ready(path: str) -> Ready:
    """Ready when GET `path` on loopback gives 200."""

    def ready(port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return ready


def tree(pid: int) -> list[psutil.Process]:
    """List the process and its live descendants; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tree_cpu_seconds(pid: int) -> float:
    """CPU seconds of a tree: every live process, and the children that each has waited for (they are in its own account)."""
    total = 0.0
    for process in tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


class ServerProcess:
    """A server subprocess. Its log goes to a file, of which an error quotes the end."""

    def __init__(
        self,
        name: str,
        command: Callable[[int], Sequence[str]],
        ready: Ready,
        *,
        environment: Mapping[str, str] | None = None,
        timeout: float = 180.0,
    ) -> None:
        """Start `command(port)` and wait until `ready(port)`.

        Args:
            name: of the log file.
            command: gives the command line for a port.
            ready: asked every 0.2 s.
            environment: added to this process's.
            timeout: seconds until ready.

        Raises:
            BenchError: the process ended, or was not ready in time.
        """
        self.name = name
        self.port = free_port()
        self.log = cache_folder() / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                list(command(self.port)),
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait(ready, timeout)
        except BaseException:
            self.stop()
            raise

    def _wait(self, ready: Ready, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not ready(self.port):
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} ended with {self._process.returncode} before it was ready:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} was not ready after {timeout:.0f} s:\n{self.tail()}")
            time.sleep(0.2)

    @property
    def pid(self) -> int:
        """Of the tree's root."""
        return self._process.pid

    @property
    def address(self) -> str:
        """Loopback `host:port`."""
        return f"127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far, in seconds, exited children included."""
        return tree_cpu_seconds(self.pid)

    def tail(self, lines: int = 20) -> str:
        """End of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def stop(self, grace: float = 10.0) -> None:
        """Terminate the tree by pid; what has not ended after `grace` seconds is killed."""
        if self._process.poll() is not None:
            return
        members = tree(self.pid)
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for member in members:
            if member.is_running():  # compares the start time too: a reused pid is left alone
                member.kill()

    def __enter__(self) -> ServerProcess:
        """Use as a context: stopped at its end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop."""
        self.stop()


class AttachedServer:
    """A server that runs already and goes on running: only its CPU time is read."""

    def __init__(self, address: str, pid: int) -> None:
        """Take the loopback `host:port` and the pid of the tree's root.

        Raises:
            BenchError: there is no such process.
        """
        if not psutil.pid_exists(pid):
            raise BenchError(f"no process {pid} serves {address}")
        self._address = address
        self._pid = pid

    @property
    def address(self) -> str:
        """Loopback `host:port`."""
        return self._address

    def cpu_seconds(self) -> float:
        """As `ServerProcess.cpu_seconds`."""
        return tree_cpu_seconds(self._pid)

    def stop(self) -> None:
        """Leave it running: whoever started it stops it."""
