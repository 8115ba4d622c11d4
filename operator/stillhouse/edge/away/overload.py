"""Overload is answered at once: so many in flight, a few that wait for a moment, and RESOURCE_EXHAUSTED for the rest.

`grpc.aio` has `maximum_concurrent_rpcs`, which counts wrong (grpc issues 30424 and 41531), so the gateway counts itself.

Who waits is bounded in number and in time. The time is CoDel's idea as Facebook's servers use it (Maurer, "Fail at Scale", 2015):
a burst may wait `interval` (100 ms); where the queue has not been empty for that long it is a standing queue, which
adds latency and no throughput, and nobody waits longer than `target` (5 ms). An overload also lasts while somebody is refused
now and then: a server that answers in batches empties the queue with each of them. First come, first served: with waits that
short, newest-first would win nothing and starve somebody.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from stillhouse.edge.status import Code, Refused

__all__ = ["Admission", "AdmissionPolicy", "FixedLimit", "GradientLimit"]


class FixedLimit:
    """A limit that stays."""

    def __init__(self, limit: int) -> None:
        self.value = limit

    def learn(self, seconds: float, in_flight: int) -> None:
        """Take a request's time in service, and how many there were when it ended, itself among them."""


class GradientLimit:
    """A limit that follows latency: it grows while requests take as long as without a queue, and shrinks as they take longer.

    The gradient is Netflix's (limit * usual / now + √limit). What is usual is measured as Envoy does it: now and then the limit
    goes down to `least` for `samples` requests. The least latency of late was tried
    first, and took an overload that lasted for usual. `every`: requests between two measurements, at 10,000 a cost of
    a tenth of a percent; a limit that has sunk to `least` is measured sooner, for the server may have become slower for good.
    """

    def __init__(
        self,
        *,
        initial: int = 20,
        least: int = 4,
        most: int = 1000,
        tolerance: float = 1.5,
        every: int = 10_000,
        samples: int = 50,
    ) -> None:
        self.least, self.most, self.tolerance, self.every, self.samples = least, most, tolerance, every, samples
        self._limit = float(initial)
        self._usual = 0.0
        self._recent = 0.0
        self._until = 0  # requests to the next measurement
        self._at_least = 0
        self._measured: list[float] = []
        self._measuring = True
        self.value = least

    def learn(self, seconds: float, in_flight: int) -> None:
        """Take a request's time in service, and how many there were when it ended, itself among them."""
        if self._measuring:
            if in_flight <= self.least:
                self._measure(seconds)
            return
        self._recent += (seconds - self._recent) / 20
        self._until -= 1
        self._at_least = self._at_least + 1 if self._limit <= self.least else 0
        if self._until <= 0 or self._at_least > 10 * self.samples:
            self._measuring, self.value = True, self.least
            return
        if in_flight * 2 < self._limit:
            return  # a limit that is not used is neither too high nor too low
        gradient = max(0.5, min(1.0, self.tolerance * self._usual / self._recent))
        # A limit's worth of requests is one step: down by up to a half, up by a fifth of the root.
        step = gradient - 1.0 if gradient < 1.0 else 0.2 / math.sqrt(self._limit)
        self._limit = max(self.least, min(self.most, self._limit + step))
        self.value = int(self._limit)

    def _measure(self, seconds: float) -> None:
        self._measured.append(seconds)
        if len(self._measured) < self.least + self.samples:
            return
        kept = self._measured[self.least :]  # the first ones began when there were more
        self._usual = self._recent = sum(kept) / len(kept)
        self._measured, self._measuring, self._until, self._at_least = [], False, self.every, 0
        self.value = int(self._limit)


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Who may wait: at most `waiting` requests, each up to `interval` seconds, in a standing queue up to `target` seconds."""

    waiting: int = 64
    target: float = 0.005
    interval: float = 0.1


class Admission:
    """The door: `enter` before a request is worked on, `leave` after it. Its clock is the running loop's time."""

    def __init__(self, limit: FixedLimit | GradientLimit, policy: AdmissionPolicy | None = None) -> None:
        self.limit = limit
        self.policy = policy or AdmissionPolicy()
        self.in_flight = 0
        self.refused = 0
        self._waiting: dict[asyncio.Future[bool], None] = {}  # in order; who gives up leaves from the middle
        self._empty_at = self._refused_at = -math.inf

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    def try_enter(self) -> bool:
        """Enter if there is room and nobody waits: the usual case, without a coroutine."""
        if self.in_flight < self.limit.value and not self._waiting:
            self.in_flight += 1
            return True
        return False

    async def enter(self, deadline: float = math.inf) -> None:
        """Enter, after waiting for a moment where it must be; `deadline`: the loop's time at which waiting has no use any more.

        Raises `Refused` RESOURCE_EXHAUSTED.
        """
        if self.try_enter():
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        policy = self.policy
        if not self._waiting:
            self._empty_at = now
        if len(self._waiting) >= policy.waiting:
            raise self._refuse(f"{self.in_flight} requests are in flight and {len(self._waiting)} wait")
        lasting = now - self._empty_at > policy.interval or now - self._refused_at < policy.interval
        patience = policy.target if lasting else policy.interval
        until = min(now + patience, deadline)
        if until <= now:
            raise self._refuse("there is no time to wait")
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting[turn] = None
        timer = loop.call_at(until, self._give_up, turn)
        try:
            entered = await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled() and turn.result():
                self._release()  # let in and cancelled in the same moment
            raise
        finally:
            timer.cancel()
        if not entered:
            raise self._refuse(f"{self.in_flight} requests are in flight, and none ended in {(until - now) * 1000:.0f} ms")

    def leave(self, seconds: float | None = None) -> None:
        """Leave. `seconds`: what the request took since it entered; None where that says nothing of the load (it failed)."""
        if seconds is not None:
            self.limit.learn(seconds, self.in_flight)
        self._release()

    def _release(self) -> None:
        self.in_flight -= 1
        while self._waiting and self.in_flight < self.limit.value:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():
                self.in_flight += 1
                turn.set_result(True)

    def _give_up(self, turn: asyncio.Future[bool]) -> None:
        if not turn.done():
            del self._waiting[turn]
            turn.set_result(False)

    def _refuse(self, why: str) -> Refused:
        self.refused += 1
        self._refused_at = asyncio.get_running_loop().time()
        return Refused(Code.RESOURCE_EXHAUSTED, f"the gateway has enough to do: {why}")
