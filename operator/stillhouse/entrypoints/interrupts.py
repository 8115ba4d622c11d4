"""Who asked this process to stop.

A KeyboardInterrupt can get lost: C extensions that import Python code turn it into an error of their own or drop it. So the
signal is also remembered, and looked at where work begins and ends.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

__all__ = ["ignore", "listen", "requested"]

_received: list[int] = []


def listen(instead: Callable[[], None] | None = None) -> None:
    """Take SIGINT, SIGTERM and SIGHUP as requests to stop: they raise KeyboardInterrupt and are remembered.

    `instead` is called in place of the exception.
    """

    def take(number: int, frame: object) -> None:
        _received.append(number)
        if instead is not None:
            instead()
        raise KeyboardInterrupt

    _received.clear()
    signal.signal(signal.SIGTERM, take)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # the shell ignores it for what runs in the background
        signal.signal(signal.SIGINT, take)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # the terminal was closed; `nohup` has set SIG_IGN
        signal.signal(signal.SIGHUP, take)


def ignore() -> None:
    """Let nothing end this process but its own end: CPython gives back the default handlers, and then takes its time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def requested() -> bool:
    """Return whether a request to stop has come."""
    return bool(_received)
