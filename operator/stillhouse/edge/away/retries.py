"""Trying again, and trying twice: for UNAVAILABLE only, within a budget, and never once bytes of an answer were passed on.

What an attempt is, the caller knows: a coroutine function that gets an `Attempt` and returns the answer or raises `RpcError`.
The rules are those of gRFC A6, with a budget over requests as in Finagle, Envoy and linkerd instead of its failure ratio.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.status import Code, RpcError, code_of

__all__ = ["Attempt", "HedgePolicy", "Retrier", "RetryBudget", "RetryPolicy", "pushback_seconds"]

T = TypeVar("T")
PUSHBACK = re.compile(r"0|[1-9][0-9]{0,9}")
LARGEST_PUSHBACK = 2**31 - 1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when. `attempts` counts the first; the n-th wait is a random part of `base` * `growth` ** (n - 1) seconds.

    `cap`: at most of so many.
    """

    attempts: int = 3
    base: float = 0.05
    growth: float = 2.0
    cap: float = 1.0


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """A second attempt after this quantile of recent latencies, and not before `least` seconds."""

    quantile: float = 0.95
    least: float = 0.005


class RetryBudget:
    """What may be sent beyond first attempts: a share of the requests of the last `ttl` seconds, and a minimum per second.

    The balance fades with e^(-t/ttl) instead of keeping a window of deposits: two numbers.
    """

    def __init__(
        self, *, share: float = 0.2, minimum: float = 1.0, ttl: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._reserve, self._ttl, self._clock = share, minimum * ttl, ttl, clock
        self._above = 0.0  # what requests paid in, less what was taken; never under minus the reserve
        self._at = clock()

    @property
    def balance(self) -> float:
        """How many attempts could be paid for now."""
        self._fade()
        return self._above + self._reserve

    def deposit(self) -> None:
        """Count a request."""
        self._fade()
        self._above += self._share

    def withdraw(self) -> bool:
        """Pay for an attempt; say whether there was enough."""
        self._fade()
        if self._above + self._reserve < 1.0:
            return False
        self._above -= 1.0
        return True

    def _fade(self) -> None:
        now = self._clock()
        self._above *= math.exp((self._at - now) / self._ttl)  # towards the reserve, from both sides
        self._at = now


def pushback_seconds(value: str | None) -> float | None:
    """Read `grpc-retry-pushback-ms`: seconds to wait; -1 for "do not retry" and what cannot be read; None where there is none."""
    if value is None:
        return None
    if not PUSHBACK.fullmatch(value) or int(value) > LARGEST_PUSHBACK:
        return -1.0
    return int(value) / 1000


class Attempt:
    """One try of a call. `number`: from 1; `grpc-previous-rpc-attempts` is one less. `hedged`: another one runs besides."""

    __slots__ = ("_call", "hedged", "number")

    def __init__(self, call: _Call[Any], number: int, *, hedged: bool = False) -> None:
        self._call, self.number, self.hedged = call, number, hedged

    def commit(self) -> bool:
        """Ask whether this attempt may pass on the answer's first bytes; then there is no other. False: another one did."""
        if self._call.committed is None:
            self._call.committed = self
            self._call.on_commit()
        return self._call.committed is self


class _Call(Generic[T]):
    """What the attempts of one call share."""

    __slots__ = ("committed", "tasks")

    def __init__(self) -> None:
        self.committed: Attempt | None = None
        self.tasks: dict[asyncio.Task[T], Attempt] = {}

    def on_commit(self) -> None:
        for task, attempt in self.tasks.items():
            if attempt is not self.committed:
                task.cancel()


def _answered(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and task.exception() is None


class Retrier:
    """Runs calls to one backend or a group of equal ones; counts what it does."""

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        *,
        budget: RetryBudget | None = None,
        hedge: HedgePolicy | None = None,
        latencies: Quantiles | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.policy = policy or RetryPolicy()
        self.budget = budget or RetryBudget(clock=clock)
        self.hedge, self.latencies = hedge, latencies
        self.retries = self.hedges = self.hedge_wins = self.denied = 0
        self._clock, self._sleep, self._uniform = clock, sleep, uniform
        self._leaving: set[asyncio.Task[Any]] = set()

    async def run(self, attempt: Callable[[Attempt], Coroutine[Any, Any, T]], *, deadline: float = math.inf) -> T:
        """Give the first answer of up to `policy.attempts` attempts.

        `deadline`: the clock's time from which on there is no use in one more. Raises what the last attempt raised.
        """
        self.budget.deposit()
        call: _Call[T] = _Call()
        number, waits = 1, 0
        while True:
            after = self._hedge_after(deadline) if number == 1 and self.policy.attempts > 1 else None
            try:
                if after is None:
                    return await attempt(Attempt(call, number))
                return await self._race(call, attempt, after)
            except (RpcError, OSError, EOFError) as error:
                number += max(1, len(call.tasks))
                call.tasks.clear()
                wait = self._wait(error, number, waits)
                if call.committed is not None or wait is None or self._clock() + wait >= deadline:
                    raise
                if not self.budget.withdraw():
                    self.denied += 1
                    raise
                # A6: after a pushback the back-off begins anew.
                waits = 0 if isinstance(error, RpcError) and error.pushback is not None else waits + 1
            self.retries += 1
            await self._sleep(wait)

    async def drain(self) -> None:
        """Wait for what was cancelled: losers of hedging end by themselves, and nobody else waits for them."""
        while self._leaving:
            await asyncio.wait(self._leaving)

    def _wait(self, error: BaseException, number: int, waits: int) -> float | None:
        if code_of(error) != Code.UNAVAILABLE or number > self.policy.attempts:
            return None
        told = pushback_seconds(error.pushback) if isinstance(error, RpcError) else None
        if told is not None:
            return told if told >= 0 else None
        return self._uniform(0.0, min(self.policy.cap, self.policy.base * self.policy.growth**waits))

    def _hedge_after(self, deadline: float) -> float | None:
        if self.hedge is None or self.latencies is None:
            return None
        usual = self.latencies.quantile(self.hedge.quantile)
        if usual is None:
            return None
        after = max(usual, self.hedge.least)
        return after if self._clock() + after < deadline else None

    async def _race(self, call: _Call[T], attempt: Callable[[Attempt], Coroutine[Any, Any, T]], after: float) -> T:
        """Run the first attempt and, if it takes long, a second one; `_winner` says whose end counts."""
        first = self._start(call, attempt, 1)
        timer = asyncio.ensure_future(self._sleep(after))
        try:
            await asyncio.wait([first, timer], return_when=asyncio.FIRST_COMPLETED)
            if first.done() or call.committed is not None:
                return await first
            if not self.budget.withdraw():
                self.denied += 1
                return await first
            self.hedges += 1
            second = self._start(call, attempt, 2)
            running = {first, second}
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                winner = self._winner(call, [task for task in (first, second) if task in done], last=not running)
                if winner is not None:
                    self.hedge_wins += winner is second and _answered(winner)
                    return await winner
            return await first
        finally:
            timer.cancel()
            for task in call.tasks:
                if not task.done():
                    task.cancel()
                    self._leaving.add(task)
                    task.add_done_callback(self._left)
                elif not task.cancelled():
                    task.exception()  # seen: asyncio complains of errors that nobody looked at

    def _winner(self, call: _Call[T], done: list[asyncio.Task[T]], *, last: bool) -> asyncio.Task[T] | None:
        """Choose whose end is the call's: an answer, else an error that is final; what may be retried waits for the other."""
        if call.committed is not None:
            done = [task for task in done if call.tasks[task] is call.committed]
        for task in done:
            if _answered(task):
                return task
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None and (call.committed is not None or code_of(error) != Code.UNAVAILABLE):
                return task
        return done[-1] if last and done else None

    def _start(self, call: _Call[T], attempt: Callable[[Attempt], Coroutine[Any, Any, T]], number: int) -> asyncio.Task[T]:
        one = Attempt(call, number, hedged=number > 1)
        task = asyncio.get_running_loop().create_task(attempt(one))
        call.tasks[task] = one
        return task

    def _left(self, task: asyncio.Task[Any]) -> None:
        self._leaving.discard(task)
        if not task.cancelled():
            task.exception()
