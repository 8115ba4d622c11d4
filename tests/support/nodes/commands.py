"""Commands of the system, run to their end; what they said is in the error."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CommandFailed", "run"]


class CommandFailed(Exception):
    """A command ended badly; the text holds it and the end of what it said."""


def run(*words: str | Path, given: bytes | str = "", folder: Path | None = None, timeout_s: float = 600.0) -> str:
    """Run a command and return its standard output.

    Raises:
        CommandFailed: it is not there, took too long, or its exit code is not 0.
    """
    command: Sequence[str] = [str(word) for word in words]
    content = given.encode() if isinstance(given, str) else given
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=timeout_s, cwd=folder, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise CommandFailed(f"{' '.join(command)}: exit code {done.returncode}\n{said[-4000:]}")
    return done.stdout.decode(errors="replace")
