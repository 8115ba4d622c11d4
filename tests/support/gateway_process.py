"""The gateway as a process, as an edge machine or a pod has it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.processes import end

__all__ = ["Gateway", "gateway", "refused"]

COMMAND = (sys.executable, "-m", "stillhouse.entrypoints.gateway")


@dataclass
class Gateway:
    """A running gateway; `lines` are what it has said."""

    process: subprocess.Popen[str]
    address: str = ""
    lines: list[str] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())


@contextmanager
def gateway(*words: str) -> Iterator[Gateway]:
    """Start a gateway on any free port; end it by SIGTERM."""
    process = subprocess.Popen(
        [*COMMAND, "--listen=127.0.0.1:0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    running = Gateway(process)
    reader = threading.Thread(target=running.read, daemon=True)
    reader.start()
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("listening on "), f"{said}{running.lines}"
        running.address = said.split()[-1]
        yield running
    finally:
        end(process)
        reader.join(10)


def refused(*words: str) -> tuple[int, str]:
    """Return exit code and error of a gateway that does not start."""
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr
