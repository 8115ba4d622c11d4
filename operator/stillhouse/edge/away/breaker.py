"""A circuit breaker: a backend that fails is left alone for a while, then tried with a few requests.

    closed ── failures in a row, or their share of a window ──▶ open ── its time is over ──▶ half-open
      ▲                                                          ▲                              │
      └── enough probes succeed ─────────────────────────────────┼──────────────────────────────┤
                                                                 └── a probe fails: longer ─────┘

`admit` gives a ticket, or none; `record` takes it back with what became of the request. A ticket of an earlier state counts for
nothing: the late failures of what was sent before an outage must not close or open what came after. Nothing here waits, and
one event loop needs no lock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum

from stillhouse.edge.status import Code, Refused, RpcError, code_of

__all__ = ["Breaker", "BreakerPolicy", "BreakerState", "Snapshot", "Verdict", "judge"]

BUCKETS = 10
ANSWERS = frozenset(Code) - {
    Code.CANCELLED,
    Code.UNKNOWN,
    Code.DEADLINE_EXCEEDED,
    Code.RESOURCE_EXHAUSTED,
    Code.ABORTED,
    Code.INTERNAL,
    Code.UNAVAILABLE,
    Code.DATA_LOSS,
}
"""Codes of a server that works, whatever it thinks of the request."""


class BreakerState(StrEnum):
    """What a breaker does with the next request."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Verdict(Enum):
    """What a request's end says about its backend."""

    SUCCESS = "success"
    FAILURE = "failure"
    NOTHING = "nothing"


def judge(error: BaseException | None) -> Verdict:
    """Say what the end of a request tells about its backend.

    A failure is UNAVAILABLE, an error of the connection, or a deadline of the gateway's that passed. A deadline of the client's
    own choice, a cancelled request, an overloaded server (it needs fewer requests, not none) and an error inside one
    request (INTERNAL, UNKNOWN: one poisonous input must not close the way for all) say nothing.
    """
    if error is None:
        return Verdict.SUCCESS
    if isinstance(error, Refused):
        return Verdict.NOTHING
    code = code_of(error)
    if code == Code.UNAVAILABLE:
        return Verdict.FAILURE
    if code == Code.DEADLINE_EXCEEDED:
        return Verdict.FAILURE if not isinstance(error, RpcError) or error.ours else Verdict.NOTHING
    return Verdict.SUCCESS if code in ANSWERS else Verdict.NOTHING


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and for how long; times in seconds. docs/design/20261126-away.md says where the figures are from."""

    consecutive: int = 5
    failure_rate: float = 0.5
    minimum: int = 20
    window: float = 10.0
    open_base: float = 1.0
    open_growth: float = 2.0
    open_max: float = 60.0
    jitter: float = 0.2
    probes: int = 1
    successes: int = 2
    probe_timeout: float = 30.0
    forgive: float = 30.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A breaker at one moment, for metrics and `still edge status`. `retry_in`: seconds until it tries again, 0 where it does."""

    state: BreakerState
    requests: int
    failures: int
    consecutive: int
    retry_in: float
    trips: int
    opened: int
    refused: int


class Breaker:
    """The breaker of one backend.

    `uniform(a, b)` draws the jitter. `on_change(old, new)` is told of every change of state.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        on_change: Callable[[BreakerState, BreakerState], None] | None = None,
    ) -> None:
        self.policy = policy or BreakerPolicy()
        self.opened = self.refused = 0
        self._clock, self._uniform, self._on_change = clock, uniform, on_change
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._trips = 0  # what open times grow with
        self._since = self._latest = clock()
        self._jumped = 0.0
        self._open_until = 0.0
        self._probing = self._proved = 0
        self._probed_at = 0.0
        self._consecutive = 0
        self._width = self.policy.window / BUCKETS
        self._slot = 0
        self._seen = [0] * BUCKETS
        self._failed = [0] * BUCKETS
        self._seen_sum = self._failed_sum = 0

    @property
    def state(self) -> BreakerState:
        """The state that the next request finds."""
        if self._state is BreakerState.OPEN and self._now() >= self._open_until:
            return BreakerState.HALF_OPEN
        return self._state

    @property
    def retry_in(self) -> float:
        """Seconds until a request is let through again; 0 where one is."""
        return max(0.0, self._open_until - self._now()) if self._state is BreakerState.OPEN else 0.0

    def admit(self) -> int | None:
        """Give a ticket for one request, or None where it must not be sent. Every ticket is handed to `record` once."""
        if self._state is BreakerState.CLOSED:
            return self._generation
        now = self._now()
        if self._state is BreakerState.OPEN:
            if now < self._open_until:
                self.refused += 1
                return None
            self._turn(BreakerState.HALF_OPEN, now)
        if self._probing >= self.policy.probes:
            if now - self._probed_at < self.policy.probe_timeout:
                self.refused += 1
                return None
            self._turn(BreakerState.HALF_OPEN, now)  # probes that nobody reported: their tickets are void from here on
        self._probing += 1
        self._probed_at = now
        return self._generation

    def record(self, ticket: int, verdict: Verdict) -> None:
        """Take a ticket back with what its request's end says."""
        if ticket != self._generation:
            return
        now = self._now()
        if self._state is BreakerState.CLOSED:
            self._record_closed(verdict, now)
            return
        self._probing -= 1
        if verdict is Verdict.FAILURE:
            self._open(now)
        elif verdict is Verdict.SUCCESS:
            self._proved += 1
            if self._proved >= self.policy.successes:
                self._turn(BreakerState.CLOSED, now)

    def snapshot(self) -> Snapshot:
        """Give what there is to see."""
        self._advance(self._now())
        return Snapshot(
            self.state, self._seen_sum, self._failed_sum, self._consecutive, self.retry_in, self._trips, self.opened, self.refused
        )

    def _record_closed(self, verdict: Verdict, now: float) -> None:
        if verdict is Verdict.NOTHING:
            return
        self._advance(now)
        at = self._slot % BUCKETS
        self._seen[at] += 1
        self._seen_sum += 1
        if verdict is Verdict.SUCCESS:
            self._consecutive = 0
            return
        self._failed[at] += 1
        self._failed_sum += 1
        self._consecutive += 1
        enough = self._seen_sum >= self.policy.minimum
        if self._consecutive >= self.policy.consecutive or (
            enough and self._failed_sum >= self.policy.failure_rate * self._seen_sum
        ):
            self._open(now)

    def _open(self, now: float) -> None:
        policy = self.policy
        if self._state is BreakerState.CLOSED:  # each calm while takes one step of the growth back: a flapping backend keeps it
            self._trips = max(0, self._trips - int((now - self._since) / policy.forgive))
        # The exponent is bounded: a float's range ends at 2 ** 1024.
        length = min(policy.open_max, policy.open_base * policy.open_growth ** min(self._trips, 64))
        self._trips += 1
        self.opened += 1
        self._open_until = now + length * self._uniform(1 - policy.jitter, 1 + policy.jitter)
        self._turn(BreakerState.OPEN, now)

    def _turn(self, state: BreakerState, now: float) -> None:
        old, self._state = self._state, state
        self._generation += 1
        self._since = now
        self._probing = self._proved = self._consecutive = 0
        if state is BreakerState.CLOSED:
            self._seen, self._failed = [0] * BUCKETS, [0] * BUCKETS
            self._seen_sum = self._failed_sum = 0
        if self._on_change is not None and old is not state:
            self._on_change(old, state)

    def _advance(self, now: float) -> None:
        slot = int(now / self._width)
        for each in range(max(self._slot + 1, slot - BUCKETS + 1), slot + 1):
            at = each % BUCKETS
            self._seen_sum -= self._seen[at]
            self._failed_sum -= self._failed[at]
            self._seen[at] = self._failed[at] = 0
        self._slot = max(slot, self._slot)

    def _now(self) -> float:
        """Give the time, which stands still where the clock jumps back: nothing is open, nor counts, any longer for that."""
        now = self._clock() + self._jumped
        if now < self._latest:
            self._jumped += self._latest - now
            now = self._latest
        self._latest = now
        return now
