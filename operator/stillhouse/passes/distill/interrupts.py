"""A request to stop, between two steps: there weights and optimizer belong together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interrupts_between_steps"]


@contextmanager
def interrupts_between_steps() -> Iterator[threading.Event]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait: the event is set by the first, a second goes to the former handler at once.

    What nobody handles (a library's use), or the shell has said to ignore, stays so.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only; whoever runs this one stops it by other means
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    former = {number: handler for number, handler in former.items() if callable(handler)}

    def handle(number: int, frame: Any) -> None:
        before = former[number]  # type: ignore[index]
        if stop.is_set() and callable(before):
            before(number, frame)
        stop.set()

    for number in former:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
