"""Server processes of a test: started with a log file, ended by pid, never left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

__all__ = ["ServerProcess", "StartFailed", "free_port"]

_SUPERVISED = Path(__file__).with_name("supervised.py")


class StartFailed(Exception):
    """A server ended or did not become ready; the text holds the last lines of its log."""

    def __init__(self, message: str, *, port_taken: bool = False) -> None:
        super().__init__(message)
        self.port_taken = port_taken


class ServerProcess:
    """One running server. It dies with this process, also when that is killed (Linux).

    Start it from a thread that lives as long as it should: the kernel watches the starting thread.
    """

    def __init__(self, name: str, executable: Path, arguments: Sequence[str], log: Path) -> None:
        """Start `executable`; both output streams are appended to `log`."""
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISED), str(os.getpid()), str(executable.resolve()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the tests, which then stop the server in order
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def listens_on(self, port: int) -> bool:
        """Whether it is this process, and not another one, that listens on TCP `port`."""
        try:
            sockets = psutil.Process(self.pid).net_connections("tcp")
        except psutil.Error:  # it has just ended
            return False
        return any(socket.status == psutil.CONN_LISTEN and socket.laddr.port == port for socket in sockets)

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log, indented."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"  | {line}" for line in text) or "  | (empty)"

    def wait_until(self, is_ready: Callable[[], str | None], timeout: float) -> None:
        """Poll until the server is ready.

        Args:
            is_ready: returns `None` when it is, else what is still missing.
            timeout: seconds.

        Raises:
            StartFailed: it ended, or the time is over.
        """
        deadline = time.monotonic() + timeout
        while (missing := is_ready()) is not None:
            if not self.is_running():
                log = self.tail()
                raise StartFailed(
                    f"{self.name} ended with status {self._process.returncode}; the end of its log:\n{log}",
                    port_taken="address already in use" in log,
                )
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self.name} is not ready after {timeout:.0f} s ({missing}); the end of its log:\n{self.tail()}"
                )
            time.sleep(0.05)

    def stop(self, grace: float = 10.0) -> None:
        """End it: SIGTERM, after `grace` seconds SIGKILL. Harmless when it has ended."""
        if not self.is_running():
            return
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now; another process may still take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
