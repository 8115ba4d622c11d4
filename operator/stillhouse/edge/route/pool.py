"""Backends of one model: the one with the fewest requests in flight for its weight, and none that fails again and again.

Ejection follows Envoy's outlier detection: after `failures` in a row a backend is left alone for `eject_s` times how often that
has happened, and at most `most_ejected` of them are, because a pool that ejects everybody answers nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from stillhouse.edge.away.retries import RetryBudget
from stillhouse.edge.status import Code, Metadata, Reply, RpcError

__all__ = ["Backend", "Outliers", "Pool", "Sender"]

_LONGEST_EJECTION_S = 300.0
_RETRIES_A_SECOND = 10.0
"""That are always paid for: a backend that ends breaks off all that it has, a hundred calls after ten quiet seconds."""
_ELSEWHERE = frozenset({Code.UNAVAILABLE, Code.NOT_FOUND})
"""What another backend may answer better. NOT_FOUND: a server that starts or ends does not know its model, and we know that there
is one."""
_FAULTS = _ELSEWHERE | {Code.DATA_LOSS, Code.INTERNAL, Code.UNKNOWN}
"""What speaks against a backend. A deadline may be the client's; RESOURCE_EXHAUSTED is load, which requests in flight show."""


class Sender(Protocol):
    """What sends to one address (`wire.client.Channel`)."""

    @property
    def in_flight(self) -> int:
        """Return how many calls have not ended."""
        ...

    async def unary(self, method: str, message: bytes, *, metadata: Metadata = (), told_s: float | None = None) -> Reply:
        """Call a unary method; `told_s`: seconds that are left, as the server is told."""
        ...

    def leave(self) -> None:
        """Take no new calls; end the connection when nothing is under way in it."""
        ...

    async def close(self) -> None:
        """End the connection now."""
        ...


@dataclass(frozen=True, slots=True)
class Outliers:
    """When a backend is left alone."""

    failures: int = 5
    eject_s: float = 5.0
    most_ejected: float = 0.5


class Backend:
    """One address. `weight`: its share of the load beside the others'."""

    __slots__ = ("_failures", "address", "ejected_until", "ejections", "sender", "weight")

    def __init__(self, address: str, sender: Sender, weight: float) -> None:
        self.address, self.sender, self.weight = address, sender, weight
        self.ejected_until = 0.0
        self.ejections = 0
        self._failures = 0

    def went(self, code: Code, now: float, outliers: Outliers) -> bool:
        """Note how a call ended; return whether the backend should be left alone now."""
        if code not in _FAULTS:
            self._failures = 0
            if self.ejections and now > self.ejected_until + outliers.eject_s:
                self.ejections -= 1  # forgiven, one at a time
            return False
        self._failures += 1
        return self._failures >= outliers.failures

    def eject(self, now: float, outliers: Outliers) -> None:
        """Leave it alone for a while."""
        self.ejections += 1
        self.ejected_until = now + min(outliers.eject_s * self.ejections, _LONGEST_EJECTION_S)
        self._failures = 0


class Pool:
    """The backends of one model. `dial` makes a sender for an address."""

    def __init__(
        self,
        dial: Callable[[str], Sender],
        outliers: Outliers | None = None,
        clock: Callable[[], float] = time.monotonic,
        budget: RetryBudget | None = None,
    ) -> None:
        self._dial, self._outliers, self._clock = dial, outliers or Outliers(), clock
        self.budget = budget or RetryBudget(minimum=_RETRIES_A_SECOND, clock=clock)
        """What may be sent beyond first attempts: while all fail, retries must not be the load that keeps them failing."""
        self._backends: list[Backend] = []
        self._turn = 0
        self.changes = 0
        """How often backends have come or gone: who remembers what one of them told knows when to ask anew."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Return those that are known, ejected ones too."""
        return tuple(self._backends)

    @property
    def ready(self) -> bool:
        """Return whether there is a backend that takes calls."""
        return any(each.weight > 0 for each in self._backends)

    def update(self, wanted: Mapping[str, float]) -> None:
        """Make the pool these addresses with these weights; 0 takes no new calls. Who goes ends what it has under way."""
        kept = {each.address: each for each in self._backends}
        for address, weight in wanted.items():
            if address in kept:
                kept[address].weight = weight
        new = [Backend(address, self._dial(address), weight) for address, weight in wanted.items() if address not in kept]
        gone = [each for each in self._backends if each.address not in wanted]
        self._backends = [each for each in self._backends if each.address in wanted] + new
        self.changes += bool(new or gone)
        for each in gone:
            each.sender.leave()

    def pick(self, without: Collection[Backend] = ()) -> Backend:
        """Return the backend for the next call: the fewest in flight for its weight; among equals they take turns.

        Where all are ejected, they are asked all the same. `without`: those that have failed this call already.

        Raises:
            RpcError: UNAVAILABLE; there is none.
        """
        if len(self._backends) == 1 and not without and self._backends[0].weight > 0:
            return self._backends[0]  # who is alone is asked, ejected or not
        now = self._clock()
        refused = set(without)
        usable = [each for each in self._backends if each.weight > 0 and each not in refused]
        chosen = [each for each in usable if each.ejected_until <= now] or usable
        if not chosen:
            raise RpcError(Code.UNAVAILABLE, "no backend is there to answer" if not refused else "no other backend is there")
        self._turn += 1
        first = self._turn % len(chosen)
        return min(chosen[first:] + chosen[:first], key=lambda each: (each.sender.in_flight + 1) / each.weight)

    async def unary(self, method: str, message: bytes, *, metadata: Metadata = (), told_s: float | None = None) -> Reply:
        """Call a unary method of one backend; of another one, each once, where the first is not available.

        An inference changes nothing: one that broke off may be asked for again, as often as there are backends and the budget
        has something. What no server had begun with costs nothing of it.
        `told_s`: seconds that are left, as the server is told; whoever calls ends the call when they are over.

        Raises:
            RpcError: as it ended.
        """
        tried: list[Backend] = []
        self.budget.deposit()
        while True:
            backend = self.pick(tried)
            try:
                reply = await backend.sender.unary(method, message, metadata=metadata, told_s=told_s)
            except RpcError as error:
                self._note(backend, error.code)
                tried.append(backend)
                if error.code not in _ELSEWHERE or all(each in tried for each in self._backends if each.weight > 0):
                    raise
                if not error.unprocessed and not self.budget.withdraw():
                    raise
            else:
                backend.went(Code.OK, self._clock(), self._outliers)
                return reply

    def _note(self, backend: Backend, code: Code) -> None:
        now = self._clock()
        if not backend.went(code, now, self._outliers):
            return
        ejected = sum(each.ejected_until > now for each in self._backends)
        if ejected + 1 <= self._outliers.most_ejected * len(self._backends):
            backend.eject(now, self._outliers)

    async def close(self) -> None:
        """End all connections now."""
        for each in self._backends:
            await each.sender.close()
