"""Asks every pod once a second what it has counted. A pod that does not answer has 0.9 s, and stops nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp

from stillhouse.errors import ServerError
from stillhouse.scaling.counters import read
from stillhouse.scaling.signals import History, Signals, signals
from stillhouse.scaling.targets import Key, Target, Targets
from stillhouse.scaling.wanted import Room

__all__ = ["EVERY_S", "Scraper"]

EVERY_S = 1.0
_TIMEOUT_S = 0.9
"""Less than the time to the next one, so that a pod is never asked twice at once."""
_AT_ONCE = 256
_LARGEST = 1 << 20
"""Bytes of an answer: Triton's are 4 KB."""

_log = logging.getLogger(__name__)


class Scraper:
    """Histories of all pods that `targets` names. Use it as an async context manager."""

    def __init__(self, targets: Targets, *, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._targets, self._port, self._clock = targets, port, clock
        self._histories: dict[str, History] = {}
        self._silent: set[str] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.rounds = 0
        self.failures = 0

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        # Straight to the pods: no proxy of the environment, no redirect, no cookie.
        self._session = aiohttp.ClientSession(
            timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def run(self) -> None:
        """Ask for ever."""
        due = self._clock()
        while True:
            await self.round()
            now = self._clock()
            due = max(due + EVERY_S, now)  # a round that took longer is not made up for
            await asyncio.sleep(due - now)

    async def round(self) -> None:
        """Ask every pod once."""
        pods = {target.uid: target for each in self._targets.by_model().values() for target in each}
        self._histories = {uid: self._histories.get(uid) or History() for uid in pods}
        self._silent &= pods.keys()
        await asyncio.gather(*(self._ask(target) for target in pods.values()))
        self.rounds += 1

    def signals(self) -> dict[Key, tuple[Signals, Room]]:
        """Return the signals, and what a pod has, of every model that has a value now."""
        found: dict[Key, tuple[Signals, Room]] = {}
        for key, pods in self._targets.by_model().items():
            if not pods:
                continue
            # A rolling update may change them: the mean is then right for the sum.
            instances = sum(each.instances for each in pods) / len(pods)
            histories = [self._histories[each.uid].samples if each.uid in self._histories else () for each in pods]
            value = signals(histories, instances, self._clock())
            if value is not None:
                limits = [each.cpus for each in pods if each.cpus]
                found[key] = (value, Room(instances, sum(limits) / len(pods) if len(limits) == len(pods) else None))
        return found

    async def _ask(self, target: Target) -> None:
        host = f"[{target.address}]" if ":" in target.address else target.address
        async with self._slots:
            try:
                async with self._session.get(f"http://{host}:{self._port}/metrics", allow_redirects=False) as answer:
                    answer.raise_for_status()
                    text = (await answer.content.read(_LARGEST)).decode("utf-8", "replace")
                    while len(text) < _LARGEST and (more := await answer.content.read(_LARGEST)):
                        text += more.decode("utf-8", "replace")
                sample = read(text, target.model, self._clock())
            except (TimeoutError, aiohttp.ClientError, OSError, ServerError) as problem:
                self.failures += 1
                if target.uid not in self._silent:  # once, until it answers again
                    self._silent.add(target.uid)
                    which = {"address": target.address, "model": target.model}
                    _log.warning("a pod does not tell what it counts: %s", str(problem) or type(problem).__name__, extra=which)
                return
        self._silent.discard(target.uid)
        if target.uid in self._histories:
            self._histories[target.uid].add(sample)
