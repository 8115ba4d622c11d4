"""Plain progress lines: a build that takes a minute never stands silent."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

__all__ = ["Progress"]

Item = TypeVar("Item")


class Progress:
    """Writes one line per step and, inside a long step, a line every two seconds: a count, or that it goes on.

    Args:
        stream: where the lines go; standard error by default, so that output can be piped.
        interval: seconds between two lines of one step.
    """

    def __init__(self, stream: TextIO | None = None, interval: float = 2.0) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._interval = interval
        self._start = self._last = time.monotonic()
        self._message = "starting"
        self._finished = threading.Event()

    def __enter__(self) -> Progress:
        threading.Thread(target=self._go_on, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()

    def _go_on(self) -> None:
        while not self._finished.wait(self._interval / 4):
            if time.monotonic() - self._last >= 1.5 * self._interval:
                self._print(f"… {self._message}")

    def _print(self, line: str) -> None:
        self._last = time.monotonic()
        print(f"[{self._last - self._start:5.1f} s] {line}", file=self._stream, flush=True)

    def step(self, message: str) -> None:
        """Print `message` with the seconds since the start."""
        self._message = message
        self._print(message)

    def tick(self, message: str) -> None:
        """Print `message` unless a line was printed within the interval."""
        self._message = message
        if time.monotonic() - self._last >= self._interval:
            self._print(message)

    def over(self, items: Iterable[Item], total: int, message: str) -> Iterator[Item]:
        """Yield `items`, counting them as `message 3,000/10,000`."""
        for done, item in enumerate(items, start=1):
            yield item
            self.tick(f"{message} {done:,}/{total:,}")
