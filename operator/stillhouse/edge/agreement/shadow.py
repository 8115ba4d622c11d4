"""Asks the larger model once more, for what the edge has answered already. Whatever comes of it, no client notices.

Nothing here is awaited by a request: `offer` takes what fits into a bounded queue, or counts why not. What waits is asked by a
few workers, some time after the client's answer, and not at all while the cloud is away or has too much to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from stillhouse.edge.agreement.settings import Sampling
from stillhouse.edge.status import Code, code_of

__all__ = ["Job", "Outcome", "Shadow"]

Outcome = Literal["compared", "full", "rate", "held", "failed", "stopped"]
_NOT_NOW = frozenset((Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.UNAUTHENTICATED))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """`ask()` gives the larger model's answers; `done` takes them, or None and why. `size`: bytes that it keeps alive."""

    ask: Callable[[], Awaitable[Sequence[str]]]
    done: Callable[[Sequence[str] | None, Outcome], None]
    size: int


class Shadow:
    """`now`: the loop's clock. `held()`: whether the cloud must not be asked now (an open breaker, an overload)."""

    def __init__(self, sampling: Sampling, now: Callable[[], float], held: Callable[[], bool] = lambda: False) -> None:
        self._sampling, self._now, self._held = sampling, now, held
        self._waiting: deque[tuple[float, Job]] = deque()
        self._bytes = 0
        self._there = asyncio.Event()
        self._tokens, self._tokens_at = sampling.burst, now()
        self._rest_until = now()
        self.outcomes: Counter[str] = Counter()
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def held(self) -> bool:
        """Whether nothing is asked now."""
        return self._now() < self._rest_until or self._held()

    def offer(self, job: Job) -> None:
        """Take a job, or end it at once. Does not wait."""
        sampling, now = self._sampling, self._now()
        if self.held:
            self._end(job, None, "held")
        elif len(self._waiting) >= sampling.waiting or self._bytes + job.size > sampling.waiting_bytes:
            self._end(job, None, "full")
        elif not self._paid(now):
            self._end(job, None, "rate")
        else:
            self._waiting.append((now + sampling.delay, job))
            self._bytes += job.size
            self._there.set()

    async def run(self) -> None:
        """Ask until cancelled; what is under way or waits then is dropped."""
        workers = [asyncio.ensure_future(self._work()) for _ in range(max(1, self._sampling.at_once))]
        try:
            await asyncio.gather(*workers)
        finally:
            for each in workers:
                each.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            while self._waiting:
                self._end(self._take()[1], None, "stopped")

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._there.clear()
                await self._there.wait()
            due, job = self._take()
            try:
                await self._at(due)
                if self.held:
                    self._end(job, None, "held")
                    continue
                answers = await self._asked(job)
            except asyncio.CancelledError:
                self._end(job, None, "stopped")
                raise
            self._end(job, answers, "failed" if answers is None else "compared")

    async def _at(self, due: float) -> None:
        if (left := due - self._now()) > 0:
            await asyncio.sleep(left)

    async def _asked(self, job: Job) -> Sequence[str] | None:
        self.in_flight += 1
        try:
            async with asyncio.timeout(self._sampling.timeout):
                return await job.ask()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return None  # somebody cancelled the call, not us
        except Exception as error:
            if code_of(error) in _NOT_NOW:
                self._rest_until = self._now() + self._sampling.rest
            _log.debug("a comparison failed: %s", code_of(error).name)  # no message: a server's may quote its input
            return None
        finally:
            self.in_flight -= 1

    def _take(self) -> tuple[float, Job]:
        due, job = self._waiting.popleft()
        self._bytes -= job.size
        return due, job

    def _end(self, job: Job, answers: Sequence[str] | None, outcome: Outcome) -> None:
        try:
            job.done(answers, outcome)
        except Exception as error:
            outcome = "failed"
            _log.warning("a comparison could not be counted: %s", type(error).__name__)
        self.outcomes[outcome] += 1

    def _paid(self, now: float) -> bool:
        sampling = self._sampling
        self._tokens = min(sampling.burst, self._tokens + max(0.0, now - self._tokens_at) * sampling.rate)
        self._tokens_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
