"""A machine's clocks, set by hand."""

from __future__ import annotations


class HandClocks:
    """Stands until it is told to go on; its wall clock may be set to anything."""

    def __init__(self, boot: str = "boot-1") -> None:
        self.boot = boot
        self.time = 500.0
        self.wall_time = 1_790_000_000.0

    def running(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.wall_time

    def pass_time(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self.time += seconds
        self.wall_time += seconds

    def reboot(self, wall_passed: float) -> None:
        """Begin anew, with a wall clock that believes that so much time has passed."""
        self.boot += "'"
        self.time = 3.0
        self.wall_time += wall_passed
