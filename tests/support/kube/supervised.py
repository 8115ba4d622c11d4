"""Runs a command that must not outlive the process that started it.

    python -I -S supervised.py PARENT_PID COMMAND [ARGUMENT ...]

The kernel is asked to kill this process when its parent dies (`prctl(2)`, PR_SET_PDEATHSIG; Linux), then the command
takes its place. A file of its own rather than a `preexec_fn`: Python between fork and exec is not safe in a process
with threads, and a test process may hold gRPC's or torch's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Bind this process' life to its parent's and become the command. Standard library only: it starts in milliseconds."""
    parent, *command = sys.argv[1:]
    if sys.platform.startswith("linux"):
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
        if os.getppid() != int(parent):  # it died before the call above
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
