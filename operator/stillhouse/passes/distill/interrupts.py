"""Ctrl-C between two steps, where weights and optimizer belong together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interrupts_between_steps"]


@contextmanager
def interrupts_between_steps() -> Iterator[threading.Event]:
    """Let Ctrl-C wait: the event is set by the first one, a second one goes to the former handler at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only; whoever runs this one stops it by other means
        return
    former = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        if stop.is_set() and callable(former):
            former(number, frame)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, former)
