"""Quantiles of what was measured lately, in bounded memory: a logarithmic histogram whose old samples fade.

As in DDSketch a bucket is a ratio and not a width, so every quantile has the same relative error (5 %). Fading is forward decay
(Cormode et al., ICDE 2009): a new sample weighs e^(t/τ), and nothing old needs to be touched until the numbers grow large.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable

__all__ = ["Quantiles"]

RATIO = 1.1
SMALLEST = 1e-5
BUCKETS = 180  # up to 1e-5 * 1.1 ** 178 ≈ 230 s
LOG_RATIO = math.log(RATIO)
LARGEST_EXPONENT = 500.0


class Quantiles:
    """Quantiles of latencies in seconds, from 10 µs to 230 s; what lies outside counts as the nearest of these.

    `memory`: seconds after which a sample's weight is 1/e. `least`: below that weight of samples there is no answer. `stale`:
    seconds without a sample after which there is none either: who refuses by what is measured here would otherwise
    refuse for ever, since what is refused is not measured. 1.5 KB each.
    """

    def __init__(
        self,
        *,
        memory: float = 30.0,
        least: float = 10.0,
        stale: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.count = 0
        self._memory, self._least, self._stale, self._clock = memory, least, stale, clock
        self._weights = array("d", bytes(8 * BUCKETS))
        self._total = 0.0
        self._origin = self._last = clock()
        self._cached: dict[float, tuple[int, float]] = {}

    def add(self, seconds: float) -> None:
        """Take a sample."""
        now = self._clock()
        exponent = (now - self._origin) / self._memory
        if exponent > LARGEST_EXPONENT:
            self._renew(now, exponent)
            exponent = 0.0
        weight = math.exp(exponent)
        at = 0 if seconds <= SMALLEST else min(BUCKETS - 1, math.ceil(math.log(seconds / SMALLEST) / LOG_RATIO))
        self._weights[at] += weight
        self._total += weight
        self._last = now
        self.count += 1

    def weight(self) -> float:
        """Give how many samples there are, each by what is left of it."""
        return self._total * math.exp(-(self._clock() - self._origin) / self._memory)

    def quantile(self, share: float) -> float | None:
        """Give the latency in seconds that this share of the samples does not exceed; None where too little is known of late.

        It is up to 16 samples old: a walk through the buckets costs as much as a small request's routing.
        """
        if self._clock() - self._last > self._stale or self.weight() < self._least:
            return None
        cached = self._cached.get(share)
        if cached is not None and self.count - cached[0] < 16:
            return cached[1]
        left = share * self._total
        found = 0
        for at, weight in enumerate(self._weights):
            if weight:
                found = at
                left -= weight
                if left <= 0:
                    break
        value = SMALLEST * RATIO**found * (2 / (1 + RATIO)) if found else SMALLEST  # the middle of the bucket, by ratio
        self._cached[share] = (self.count, value)
        return value

    def _renew(self, now: float, exponent: float) -> None:
        fade = math.exp(-exponent)
        for at in range(BUCKETS):
            self._weights[at] *= fade
        self._total = sum(self._weights)
        self._origin = now
