"""Liveness: whether the event loop turns, told by whoever is not in it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable

__all__ = ["LOST", "Beat"]

LOST = 5
"""Exit code of a process that lost its lease: the kubelet starts it anew."""
_LAG_S = 30.0


def _overdue() -> bytes:
    """Return a record as `logs` writes them, without what a stopped process may hold a lock of."""
    record = {"time": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), "level": "ERROR", "name": __name__}
    return (json.dumps({**record, "message": "the lease could not be renewed in time; this process ends"}) + "\n").encode()


class Beat:
    """`run` beats in the loop, `wrong` says from any thread when it does not.

    Where the loop does not turn (SIGSTOP, a bug) and another may lead by now (`overdue`), a thread ends the process.
    """

    def __init__(self, overdue: Callable[[], bool], lag_s: float = _LAG_S) -> None:
        self._overdue = overdue
        self._lag_s = lag_s
        self._last = time.monotonic()
        threading.Thread(target=self._guard, daemon=True, name="lease-guard").start()

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(min(1.0, self._lag_s / 10))

    def wrong(self) -> str:
        """Return what is wrong, empty where nothing is."""
        lag = time.monotonic() - self._last
        return f"the event loop has not turned for {lag:.0f} s" if lag > self._lag_s else ""

    def _guard(self) -> None:
        while True:
            time.sleep(0.5)
            if self._overdue():
                os.write(2, _overdue())
                os._exit(LOST)
