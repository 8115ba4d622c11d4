"""The processes of a cluster: started with a log and a note of who they are, so that anybody can end them later."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from tests.support.kube.process import StartFailed

__all__ = ["Processes"]

_SUPERVISED = Path(__file__).parent.parent / "kube" / "supervised.py"
_GRACE_S = 3.0


class Processes:
    """The processes of one cluster, by name. What each is lies in `<folder>/processes/NAME.json`.

    `bound`: they die with this process, also when that is killed; else they go on until `end_all`.
    """

    def __init__(self, folder: Path, *, bound: bool) -> None:
        self._notes = folder / "processes"
        self._logs = folder / "logs"
        self._bound = bound
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, words: Sequence[str | Path], folder: Path | None = None) -> None:
        """Start a command; its output goes to `<folder>/logs/NAME.log`.

        Raises:
            StartFailed: there is no such program.
        """
        for each in (self._notes, self._logs):
            each.mkdir(parents=True, exist_ok=True)
        command = [str(word) for word in words]
        found = _which(command[0])
        if found is None:
            raise StartFailed(f"there is no program {command[0]}")
        if self._bound:
            command = [sys.executable, "-I", "-S", str(_SUPERVISED), str(os.getpid()), found, *command[1:]]
        with self.log(name).open("ab") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder
            )
        self._children[name] = child
        note = {"pid": child.pid, "born": psutil.Process(child.pid).create_time(), "order": len(self._children)}
        (self._notes / f"{name}.json").write_text(json.dumps(note))

    def log(self, name: str) -> Path:
        """Return the file that a process writes to."""
        return self._logs / f"{name}.log"

    def wait(self, name: str, is_ready: Callable[[], str], timeout_s: float = 120.0) -> None:
        """Wait until `is_ready` says nothing any more.

        Raises:
            StartFailed: the process ended, or the time is over; the text holds the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while missing := is_ready():
            child = self._children.get(name)
            ended = child is not None and child.poll() is not None
            if ended or time.monotonic() > deadline:
                said = "\n".join(f"  | {line}" for line in self.log(name).read_text(errors="replace").splitlines()[-25:])
                how = f"ended with status {child.returncode}" if ended and child else f"is not ready after {timeout_s:.0f} s"
                raise StartFailed(f"{name} {how} ({missing}); the end of its log:\n{said}")
            time.sleep(0.1)

    def stop(self, name: str, number: int = signal.SIGKILL) -> None:
        """End one process, at once: nothing of a cluster outlives it, so nothing need be put in order."""
        note = self._notes / f"{name}.json"
        process = _living(note)
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                deadline = time.monotonic() + _GRACE_S
                # Whoever inherited it may be slow to collect it: a zombie has ended.
                while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                    time.sleep(0.02)
            child = self._children.get(name)
            if child is not None:
                child.poll()
        note.unlink(missing_ok=True)

    def lives(self) -> bool:
        """Return whether any process that a note names still runs."""
        return any(_living(note) for note in self._notes.glob("*.json"))

    def end_all(self) -> None:
        """End every process that a note names, the last that was started first."""
        for note in sorted(self._notes.glob("*.json"), key=_order, reverse=True):
            self.stop(note.stem)


def _living(note: Path) -> psutil.Process | None:
    """Return the process that a note names; None where it has ended, and its number may be another's."""
    try:
        data = json.loads(note.read_text())
        process = psutil.Process(data["pid"])
        return process if abs(process.create_time() - data["born"]) < 1.0 else None
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def _order(note: Path) -> int:
    try:
        return int(json.loads(note.read_text())["order"])
    except (OSError, ValueError, KeyError):
        return 0


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
