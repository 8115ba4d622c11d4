"""What httpunk's streams are made of, lighter: each call makes two streams, and each of them an `asyncio.Queue` and three events.

asyncio's own serve any number of readers, bounds and joins; here one reads and nothing is bound (flow control does that), so a
queue is a deque and at most one future. tests/contract/wire holds both to what httpunk asks of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from httpunk._backend.asyncio import AsyncioBackend

__all__ = ["Event", "LighterBackend", "Queue"]


class Queue:
    """An unbounded queue of one reader: sender and receiver at once."""

    __slots__ = ("_items", "_waiter")

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def send(self, item: Any) -> None:
        """Put an item in."""
        self._items.append(item)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def receive(self) -> Any:
        """Take the next item; wait for it. One task at a time."""
        while not self._items:
            if self._waiter is not None:
                raise RuntimeError("two tasks read one queue")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()


class Event:
    """`asyncio.Event` whose waiters cost nothing until there is one."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it; whoever waits goes on."""
        self._set = True
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def clear(self) -> None:
        """Take it back; whoever waits and has been told goes on all the same."""
        self._set = False

    async def wait(self) -> bool:
        """Wait until it is set."""
        if self._set:
            return True
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)
        return True


class LighterBackend(AsyncioBackend):
    """httpunk's asyncio with these two."""

    event = Event  # type: ignore[assignment]

    def queue(self) -> tuple[Queue, Queue]:
        """Return sender and receiver."""
        queue = Queue()
        return queue, queue
