"""Who asked this process to stop.

A KeyboardInterrupt can get lost: C extensions that import Python code turn it into an error of their own or drop it. So the
signal is also remembered, and looked at where work begins and ends. In the middle of an import it waits for the import's end,
since an extension that is initialised by halves can take the process with it; who asks a second time does not wait.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["ignore", "listen", "requested"]

_received: list[int] = []
_AGAIN_S = 0.05
_IMPORTS = "<frozen importlib._bootstrap>"


def listen(instead: Callable[[], None] | None = None) -> None:
    """Take SIGINT, SIGTERM and SIGHUP as requests to stop: they raise KeyboardInterrupt and are remembered.

    `instead` is called in place of the exception.
    """

    def take(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        if instead is not None:
            instead()
        stop(number, frame)

    def stop(_number: int, frame: FrameType | None) -> None:
        if len(_received) == 1 and _importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            return
        raise KeyboardInterrupt

    _received.clear()
    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGTERM, take)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # the shell ignores it for what runs in the background
        signal.signal(signal.SIGINT, take)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # the terminal was closed; `nohup` has set SIG_IGN
        signal.signal(signal.SIGHUP, take)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTS:
            return True
        frame = frame.f_back
    return False


def ignore() -> None:
    """Let nothing end this process but its own end: CPython gives back the default handlers, and then takes its time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def requested() -> bool:
    """Return whether a request to stop has come."""
    return bool(_received)
