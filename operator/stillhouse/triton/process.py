"""Starts the server's process and waits until it answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from stillhouse.errors import ServerError
from stillhouse.triton import launch
from stillhouse.triton.birth import birth

__all__ = ["spawn"]


def spawn(
    words: list[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    cpus: Iterable[int] | None = None,
    die_with_parent: bool = False,
) -> tuple[int, str]:
    """Start a program in a session of its own, its output appended to `log`.

    Args:
        words: program and arguments.
        environment: the whole environment.
        log: file for both output streams.
        cpus: cores that it and its children may use; None: all of ours.
        die_with_parent: send SIGTERM to it when the *thread* that called this ends (the kernel's rule), so call it
            from the main thread.

    Returns:
        Process id and birth (`stillhouse.triton.birth`).

    Raises:
        ServerError: the log cannot be written or the process not be made.
    """
    cores = ",".join(str(cpu) for cpu in sorted(cpus)) if cpus is not None else "all"
    parent = os.getpid() if die_with_parent else 0
    # A session of its own: Ctrl-C on the terminal is for `still`, which then stops the server in order.
    line = [sys.executable, "-I", "-S", launch.__file__, cores, str(parent), *words]
    output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), output, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        pid = os.posix_spawn(line[0], line, dict(environment), file_actions=actions, setsid=True)
    except OSError as error:
        raise ServerError("the server cannot be started", field=str(log), found=str(error)) from error
    return pid, birth(pid)
