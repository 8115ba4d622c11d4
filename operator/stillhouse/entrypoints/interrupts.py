"""Who asked this process to stop.

A KeyboardInterrupt can get lost: C extensions that import Python code turn it into an error of their own or drop it. So the
signal is also remembered, and looked at where work begins and ends.
"""

from __future__ import annotations

import signal

__all__ = ["listen", "requested"]

_received: list[int] = []


def listen() -> None:
    """Take SIGINT, SIGTERM and SIGHUP as requests to stop: they raise KeyboardInterrupt and are remembered."""
    _received.clear()
    signal.signal(signal.SIGTERM, _take)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # the shell ignores it for what runs in the background
        signal.signal(signal.SIGINT, _take)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # the terminal was closed; `nohup` has set SIG_IGN
        signal.signal(signal.SIGHUP, _take)


def requested() -> bool:
    """Return whether a request to stop has come."""
    return bool(_received)


def _take(number: int, frame: object) -> None:
    _received.append(number)
    raise KeyboardInterrupt
