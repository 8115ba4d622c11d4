"""How much one client, and all of them together, may ask at a time and per second. Constant time and bounded memory.

A client's bucket is one number, the time at which it is full again (the generic cell rate algorithm, which is the token bucket
without its counter). So a full bucket says nothing, and forgetting it costs nothing.

Memory is bounded by forgetting the client that was admitted least recently. One whose bucket was not full leaves its number
behind as a floor: whoever is new, or comes back, begins with a bucket no fuller than the emptiest that was forgotten. So no
client gains tokens by having itself pushed out with many other names; and names that are refused are not remembered at all.
What remains of such a flood: while it lasts, clients that are not remembered have no burst.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from stillhouse.edge.guard.refusals import Refusal, shown
from stillhouse.errors import Problem

__all__ = ["Limiter", "Limits"]

LONGEST_NAME = 128
"""Characters; of a longer name its hash is remembered."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed; None is no limit.

    `rate`: requests per second and client, `burst` of them at once. `concurrency`: requests of one client that are being
    answered, `total`: of all. `clients`: how many are remembered. `busy`: the seconds that a client is told to wait where a
    place must become free first, since nobody can know when.
    """

    rate: float | None = None
    burst: int = 1
    concurrency: int | None = None
    total: int | None = None
    clients: int = 10_000
    busy: float = 1.0

    def __post_init__(self) -> None:
        """Check the figures.

        Raises:
            ValueError: one of them is none that a limit can have.
        """
        if self.rate is not None and not (0 < self.rate < math.inf):
            raise ValueError(f"rate must be above 0, found {self.rate}")
        for name in ("burst", "concurrency", "total", "clients"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")
        if not (0 <= self.busy < math.inf):
            raise ValueError(f"busy must be 0 or more, found {self.busy}")


class Limiter:
    """Admits requests within `limits`. For one thread: the loop of the gateway. Every `enter` that admits needs its `leave`."""

    __slots__ = ("_clock", "_floor", "_flying", "_full_at", "_interval", "_limits", "_now", "_read", "_slack", "_total")

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._interval = 0.0 if limits.rate is None else 1 / limits.rate
        self._slack = (limits.burst - 1) * self._interval * (1 + 1e-12) + 1e-9  # else rounding takes the burst's last token
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._flying: dict[str, int] = {}
        self._total = 0
        self._read = clock()
        self._now = 0.0
        self._floor = 0.0

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return self._total

    @property
    def remembered(self) -> int:
        """How many clients' buckets are held."""
        return len(self._full_at)

    def enter(self, client: str) -> Refusal | None:
        """Admit a request of `client` (None), or say which limit it meets. A refused request costs no token."""
        limits = self._limits
        if limits.total is not None and self._total >= limits.total:
            return _refused("requests in flight", "the gateway is busy", f"{self._total} in flight", limits.total, limits.busy)
        name = _short(client)
        flying = self._flying.get(name, 0)
        if limits.concurrency is not None and flying >= limits.concurrency:
            message = f"client {shown(client)} has too many requests at a time"
            return _refused("requests in flight of one client", message, f"{flying} in flight", limits.concurrency, limits.busy)
        if limits.rate is not None:
            now = self._time()
            full_at = max(now, self._full_at.get(name, self._floor))
            wait = full_at - now - self._slack
            if wait > 0:
                message = f"client {shown(client)} asks too often"
                allowed = f"{limits.rate:g} requests per second, {limits.burst} at once"
                return _refused("requests per second", message, "", allowed, wait)
            self._remember(name, full_at + self._interval, now)
        self._flying[name] = flying + 1
        self._total += 1
        return None

    def leave(self, client: str) -> None:
        """Note that a request that was admitted has its answer, or will get none.

        Raises:
            KeyError: no request of `client` is in flight.
        """
        name = _short(client)
        flying = self._flying[name]
        if flying == 1:
            del self._flying[name]
        else:
            self._flying[name] = flying - 1
        self._total -= 1

    def _time(self) -> float:
        """Return the seconds since the start. A clock that jumps back stands still for one reading, and goes on from there."""
        read = self._clock()
        if read > self._read:
            self._now += read - self._read
        self._read = read
        return self._now

    def _remember(self, name: str, full_at: float, now: float) -> None:
        self._full_at[name] = full_at
        self._full_at.move_to_end(name)
        if len(self._full_at) > self._limits.clients:
            _, forgotten = self._full_at.popitem(last=False)
            if forgotten > now:
                self._floor = max(self._floor, forgotten)


def _refused(field: str, message: str, found: str, allowed: object, wait: float) -> Refusal:
    return Refusal("RESOURCE_EXHAUSTED", Problem(message, field=field, found=found, allowed=str(allowed)), wait)


def _short(client: str) -> str:
    if len(client) <= LONGEST_NAME:
        return client
    return (
        "long:" + hashlib.blake2b(client.encode("utf-8", "surrogatepass"), digest_size=64).hexdigest()
    )  # longer than any short name
