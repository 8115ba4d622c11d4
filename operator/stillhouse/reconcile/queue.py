"""The work queue: each key at most once in it and at most once at work, with a back-off of its own."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["FIRST_DELAY_S", "LONGEST_DELAY_S", "KeyedQueue"]

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 60.0

K = TypeVar("K", bound=Hashable)


class KeyedQueue(Generic[K]):
    """Keys that want work. Belongs to one event loop.

    A key that is added while it is queued stays where it is; one that is added while it is at work is queued again when that
    work is done. After an error it comes back by itself: in 0.5 s, then twice as long each time, up to a minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._chance = chance
        self._ready: OrderedDict[K, float] = OrderedDict()  # key → since when
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._something = asyncio.Event()

    @property
    def depth(self) -> int:
        """Return how many keys wait."""
        return len(self._ready)

    @property
    def oldest_s(self) -> float:
        """Return how many seconds the oldest has waited."""
        return self._clock() - next(iter(self._ready.values())) if self._ready else 0.0

    @property
    def idle(self) -> bool:
        """Return whether nothing waits and nothing is at work. Keys that come back later do not count."""
        return not self._ready and not self._busy

    def add(self, key: K) -> None:
        """Ask for work on a key, now."""
        self._forget_timer(key)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = self._clock()
            self._something.set()

    def add_later(self, key: K, seconds: float) -> None:
        """Ask for work on a key after some time. An earlier wish for it counts, whichever way it was made."""
        if key in self._ready:
            return
        timer = self._later.get(key)
        loop = asyncio.get_running_loop()
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        self._forget_timer(key)
        self._later[key] = loop.call_later(seconds, self.add, key)

    async def get(self) -> K:
        """Wait for the next key; `done` must follow."""
        while not self._ready:
            self._something.clear()
            await self._something.wait()
        key, _ = self._ready.popitem(last=False)
        self._busy.add(key)
        return key

    def done(self, key: K, *, failed: bool = False, retry_after_s: float = 0.0) -> float:
        """Say that the work on a key has ended; return after how many seconds it comes back, 0 where it does not by itself."""
        self._busy.discard(key)
        delay = 0.0
        if failed:
            count = self._failures.get(key, 0)
            self._failures[key] = count + 1
            # Half of it by chance: what failed together must not come back together.
            delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(count, 16)) * (0.5 + 0.5 * self._chance())
            delay = max(delay, min(retry_after_s, LONGEST_DELAY_S))
        else:
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            if not failed:
                self.add(key)
                return 0.0
        if failed:
            self.add_later(key, delay)
        return delay

    def close(self) -> None:
        """Stop all timers."""
        for key in list(self._later):
            self._forget_timer(key)

    def _forget_timer(self, key: K) -> None:
        timer = self._later.pop(key, None)
        if timer is not None:
            timer.cancel()
