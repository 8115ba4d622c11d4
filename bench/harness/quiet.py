"""Was the machine ours? The share of CPU that other processes took while we measured."""

from __future__ import annotations

import os
import time

import psutil

QUIET_SHARE = 0.05  # above it a round is repeated


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used, and that the hypervisor took away.

    Interrupt time is left out: the kernel's own work for our loopback packets is charged there, to no process.
    """
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "steal", 0.0))


class QuietCheck:
    """Measures between its creation and `share`."""

    def __init__(self) -> None:
        """Start now."""
        self._start = time.monotonic()
        self._busy = busy_seconds()
        self._own = _own_seconds()

    def share(self, others_of_ours: float) -> float:
        """Share (0 to 1) of the machine's CPU that was used by processes other than ours.

        Args:
            others_of_ours: CPU seconds since the start of the processes under test and of the load generator;
                this process's own are added.
        """
        seconds = time.monotonic() - self._start
        foreign = busy_seconds() - self._busy - others_of_ours - (_own_seconds() - self._own)
        return max(0.0, foreign / (seconds * (os.cpu_count() or 1)))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system
