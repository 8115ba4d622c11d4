"""Becomes the server: sets what only the process itself can set, then replaces itself by the program.

Run as a file by `python -I -S`, so that nothing but the standard library is imported (about 15 ms):

    launch.py CPUS PARENT PROGRAM ARGUMENT…

CPUS is a comma-separated list or "all"; PARENT is the process id whose death ends this one too, or 0. A function
between fork and exec (`preexec_fn`) would do the same, but may deadlock in a process that has threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Set affinity and the death signal, then exec."""
    cpus, parent, program = arguments[0], int(arguments[1]), arguments[2]
    if cpus != "all":
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    if parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was asked for
            sys.exit(1)
    os.execv(program, arguments[2:])  # noqa: S606 - the command line is ours


if __name__ == "__main__":
    main(sys.argv[1:])
