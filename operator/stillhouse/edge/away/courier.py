"""Carries the queue's requests to the cloud once it is back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

from stillhouse.edge.away.queue import DiskQueue
from stillhouse.edge.away.records import QueueError, Record
from stillhouse.edge.away.retries import RetryPolicy, pushback_seconds
from stillhouse.edge.status import Code, Refused, RpcError, code_of

__all__ = ["COURIER_POLICY", "Courier"]

COURIER_POLICY = RetryPolicy(attempts=5, base=1.0, growth=2.0, cap=300.0)
"""`attempts`: of errors that may be the request's own fault; the others are tried until the request is too old."""

CLOUD_AWAY = frozenset(
    (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.CANCELLED, Code.UNAUTHENTICATED)
)
"""Ends that say nothing of the request; expired credentials are renewed."""

PERHAPS_ITS_FAULT = frozenset((Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS))


class Courier:
    """Delivers what is due, `at_once` requests at a time, oldest first.

    `send(record)` gives the answer's bytes or raises `RpcError`; it sends the idempotency key along. `Refused` means that
    nothing was sent (an open breaker): no attempt. `away()` gives the seconds for which sending has no use, as
    `Breaker.retry_in` does.
    """

    def __init__(
        self,
        queue: DiskQueue,
        send: Callable[[Record], Coroutine[Any, Any, bytes]],
        *,
        away: Callable[[], float] = lambda: 0.0,
        at_once: int = 4,
        policy: RetryPolicy = COURIER_POLICY,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._queue, self._send, self._away, self._at_once = queue, send, away, at_once
        self._policy, self._uniform = policy, uniform

    async def run(self) -> None:
        """Deliver until cancelled; what is being delivered then goes back into the queue, and may be delivered twice."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._queue.changed.clear()
                wait: float | None = self._away()
                if not wait or wait <= 0:
                    wait = await self._fetch(running)
                watch = asyncio.ensure_future(self._queue.changed.wait())
                try:
                    done, _ = await asyncio.wait({watch, *running}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    watch.cancel()
                for task in done & running:
                    task.result()
                running -= done
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _fetch(self, running: set[asyncio.Task[None]]) -> float | None:
        """Start what may be started; give seconds until there may be more, None where something else will tell."""
        free = self._at_once - len(running)
        if free <= 0:
            return None
        try:
            records, due = await self._queue.take(free)
        except QueueError:
            return self._policy.base
        for each in records:
            running.add(asyncio.get_running_loop().create_task(self._deliver(each)))
        return due if len(records) < free else None

    async def _deliver(self, record: Record) -> None:
        with contextlib.suppress(QueueError):  # the queue remembers what it could not write
            try:
                answer = await self._send(record)
            except asyncio.CancelledError:
                self._queue.release(record)
                raise
            except Refused:
                self._queue.hold(record, self._uniform(0.0, self._policy.base))
            except Exception as error:
                await self._failed(record, error)
            else:
                await self._queue.settle(record, Code.OK, "", answer)

    async def _failed(self, record: Record, error: Exception) -> None:
        code = code_of(error)
        message = error.message if isinstance(error, RpcError) else f"{type(error).__name__}: {error}"
        tried = record.attempts + 1
        if code not in CLOUD_AWAY and not (code in PERHAPS_ITS_FAULT and tried < self._policy.attempts):
            await self._queue.settle(record, code, message)
            return
        most = min(self._policy.cap, self._policy.base * self._policy.growth ** min(tried - 1, 64))
        told = pushback_seconds(error.pushback) if isinstance(error, RpcError) else None
        if told is not None and told < 0:
            told = self._policy.cap  # "do not retry" means "not soon" to a queue
        await self._queue.again(record, self._uniform(0.0, most) if told is None else told)
