"""The way to a leg that may be away: breaker, retries with a budget, hedging by choice; and what is done when it is."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from stillhouse.edge.away.breaker import Breaker, BreakerPolicy, judge
from stillhouse.edge.away.deadlines import DeadlinePolicy, Deadlines
from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.away.retries import Attempt, HedgePolicy, Retrier, RetryBudget, RetryPolicy, pushback_seconds
from stillhouse.edge.cascade.legs import Leg, Rows
from stillhouse.edge.cascade.question import Question
from stillhouse.edge.status import Code, Refused, RpcError

__all__ = ["AwayPolicy", "AwaySettings", "Way", "is_away", "refusal"]

AwayPolicy = Literal["answer", "queue", "fail"]
_OF_THE_REQUEST = frozenset({Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION, Code.ALREADY_EXISTS})
"""Answers of a server that works and does not want the request. All others mean that there is nobody to answer for us."""
_SOON_MS = 1000


@dataclass(frozen=True, slots=True)
class AwaySettings:
    """What is done when the larger model cannot be reached in time; seconds.

    `policy`: `answer` gives what the small model said, however unsure; `queue` does too and keeps the request for later; `fail`
    fails. `hedge`: a second call where the first one takes long; None: never. `retry_share`, `retry_minimum`: calls beyond the
    first ones, as a share of the requests and per second.
    """

    policy: AwayPolicy = "answer"
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    hedge: HedgePolicy | None = None
    deadlines: DeadlinePolicy = field(default_factory=DeadlinePolicy)
    retry_share: float = 0.2
    retry_minimum: float = 1.0


class Way:
    """A leg behind its breaker: itself a leg. `on_change(old, new)` is told of the breaker's changes of state."""

    def __init__(
        self,
        leg: Leg,
        settings: AwaySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        sleep: Callable[[float], Coroutine[Any, Any, None]] | None = None,
        on_change: Callable[[Any, Any], None] | None = None,
    ) -> None:
        self.leg, self.name, self.variant, self.digest, self.gives_logits = (
            leg,
            leg.name,
            leg.variant,
            leg.digest,
            leg.gives_logits,
        )
        self.latencies: Quantiles = leg.latencies
        self.breaker = Breaker(settings.breaker, clock=clock, uniform=uniform, on_change=on_change)
        more: dict[str, Any] = {} if sleep is None else {"sleep": sleep}
        self.retrier = Retrier(
            settings.retries,
            budget=RetryBudget(share=settings.retry_share, minimum=settings.retry_minimum, clock=clock),
            hedge=settings.hedge,
            latencies=leg.latencies,
            clock=clock,
            uniform=uniform,
            **more,
        )
        self._deadlines = Deadlines(settings.deadlines, cloud=leg.latencies, clock=clock)
        self._clock = clock

    @property
    def ready(self) -> bool:
        """Return whether there is anybody to ask."""
        return self.leg.ready

    async def ask(self, question: Question, until: float) -> Rows:
        """Answer, trying again where that may help; see `Leg`.

        Raises:
            Refused: UNAVAILABLE; the breaker is open.
        """
        return await self.retrier.run(lambda attempt: self._attempt(question, until, attempt), deadline=until)

    async def once(self, question: Question, until: float) -> Rows:
        """Answer, in one attempt: who calls has retries of its own."""
        return await self._attempt(question, until, None)

    async def _attempt(self, question: Question, until: float, attempt: Attempt | None) -> Rows:
        breaker = self.breaker
        ticket = breaker.admit()
        if ticket is None:
            raise Refused(Code.UNAVAILABLE, f"{self.name} is left alone for {breaker.retry_in:.1f} s: it failed")
        left = until - self._clock()
        error: BaseException | None = None
        try:
            return await self.leg.ask(question, until)
        except RpcError as ended:
            # Whether our clock or the server's own ended it first is a race, and says nothing of who is to blame.
            late = ended.code == Code.DEADLINE_EXCEEDED and not isinstance(ended, Refused)
            error = RpcError(ended.code, ended.message, ended.trailing, ours=self._deadlines.fair(left)) if late else ended
            raise error from None
        except BaseException as ended:
            error = ended
            raise
        finally:
            breaker.record(ticket, judge(error))

    async def close(self) -> None:
        """Let what was cancelled end; end the connections."""
        await self.retrier.drain()
        await self.leg.close()


def is_away(error: RpcError) -> bool:
    """Say whether an error means that a leg is not there for us, rather than that it does not want the request."""
    return error.code not in _OF_THE_REQUEST


def refusal(error: RpcError, retry_in: float) -> RpcError:
    """Return what a client is told under policy `fail`: UNAVAILABLE and when to try again, or that its time is over."""
    if error.code == Code.DEADLINE_EXCEEDED:
        return RpcError(Code.DEADLINE_EXCEEDED, "the larger model did not answer in time", ours=True)
    told = pushback_seconds(error.pushback) if not isinstance(error, Refused) else None
    wait_ms = math.ceil(max(retry_in, told or 0.0) * 1000) or _SOON_MS
    text = f"the larger model is away: {error.code.name}"  # what it, or who stands before it, says may name addresses
    return RpcError(Code.UNAVAILABLE, text, ours=True, pushback=str(wait_ms))
