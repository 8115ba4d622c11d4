"""The queue's own time: it goes on while the queue lives, and no jump of the wall clock moves it.

Within one boot the kernel's CLOCK_BOOTTIME is exact, over restarts of the process and over suspend. Over a reboot there is
nothing but the wall clock, and a machine without a battery-backed one begins in 1970: what it says of the time between counts
from 0 to a bound. So a record that was fresh never expires by a jump, and none is held longer than its age while the
machine runs.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Age", "Clocks", "Mark", "SystemClocks"]


class Clocks(Protocol):
    """The clocks of a machine."""

    boot: str
    """Names this boot; empty where there is no telling."""

    def running(self) -> float:
        """Give seconds since some moment of this boot; never goes back."""

    def wall(self) -> float:
        """Give the seconds since 1970 that the machine believes in."""


class SystemClocks:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.boot = ""
        with contextlib.suppress(OSError):
            self.boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def running(self) -> float:
        """Give seconds since the boot, those of suspend among them."""
        return time.clock_gettime(self._id)

    def wall(self) -> float:
        """Give the system's time."""
        return time.time()


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the queue's time and what the clocks said then; is written with every transaction."""

    age: float
    running: float
    wall: float
    boot: str


class Age:
    """The queue's time in seconds, going on from a mark. `most_away`: how much time between two boots counts at most."""

    def __init__(self, clocks: Clocks, since: Mark | None, most_away: float) -> None:
        self._clocks = clocks
        self._base = 0.0
        if since is not None:
            same = since.boot == clocks.boot != ""
            away = clocks.running() - since.running if same else min(clocks.wall() - since.wall, most_away)
            self._base = since.age + max(0.0, away)
        self._started = clocks.running()

    def now(self) -> float:
        """Give the queue's time."""
        return self._base + self._clocks.running() - self._started

    def mark(self) -> Mark:
        """Give this moment."""
        return Mark(self.now(), self._clocks.running(), self._clocks.wall(), self._clocks.boot)
