"""How far builds are: the pods of running Jobs are asked, and what is new goes into the cache and the queue, not too often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from stillhouse.reconcile.cache import Cache, Key

__all__ = ["ASK_S", "LEAST_S", "Polling"]

ASK_S = 5.0
LEAST_S = 15.0
"""Seconds between two writes of one model's progress, at least."""


class Said(Protocol):
    """An answer that can be put into words."""

    def text(self) -> str:
        """Return it in at most 200 characters."""


@dataclass(frozen=True, slots=True)
class _Last:
    at: float
    text: str


class Polling:
    """Asks the workers of every build. `ask` returns what a pod at an address says, None where it does not answer."""

    def __init__(
        self,
        cache: Cache,
        changed: Callable[[Key], None],
        ask: Callable[[str], Awaitable[Said | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache, self._changed, self._ask, self._clock = cache, changed, ask, clock
        self._last: dict[Key, _Last] = {}

    async def run(self, leads: Callable[[], bool]) -> None:
        """Ask for ever, while this process leads."""
        while True:
            await asyncio.sleep(ASK_S)
            if leads():
                await self.round()

    async def round(self) -> None:
        """Ask every pod once. Who does not answer changes nothing."""
        workers = {(key, uid): address for key, uid, address in self._cache.workers()}
        self._cache.keep_told({uid for _, uid in workers})
        self._last = {key: last for key, last in self._last.items() if any(key == one for one, _ in workers)}
        answers = await asyncio.gather(*(self._ask(address) for address in workers.values()))
        for (key, uid), said in zip(workers, answers, strict=True):
            if said is not None:
                self._take(key, uid, said.text())

    def _take(self, key: Key, uid: str, text: str) -> None:
        last = self._last.get(key)
        if last is not None and (last.text == text or self._clock() - last.at < LEAST_S):
            return
        self._last[key] = _Last(self._clock(), text)
        if self._cache.tell(uid, text):
            self._changed(key)
