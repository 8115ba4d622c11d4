"""How long a request may take, and how that is shared between the edge leg and the cloud leg."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.status import Code, Refused

__all__ = ["DeadlinePolicy", "Deadlines", "Legs"]


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """Figures of `Deadlines`, in seconds.

    `margin`, `margin_share`: kept back from what is passed on, the larger of the two, at most half: the answer has to travel.
    `default`: for a client that names none (None: no end). `longest`: nobody gets more. `reserve`: the quantile of the cloud's
    latencies that is kept free while the edge works. `hopeless`: below this quantile of a leg's latencies it is not asked.
    `fair`: a cloud that got so long, or twice its median, and did not answer has failed.
    """

    margin: float = 0.005
    margin_share: float = 0.02
    default: float | None = 30.0
    longest: float = 600.0
    reserve: float = 0.95
    hopeless: float = 0.1
    fair: float = 1.0


@dataclass(frozen=True, slots=True)
class Legs:
    """How a request's time is shared: when the edge leg ends (the clock's time), and whether the cloud leg fits after it."""

    edge_until: float
    cloud_fits: bool


class Deadlines:
    """Shares time between legs by what they took lately.

    `edge`, `cloud`: latencies of each leg. Who measures adds the time of a leg that ran out of time as well: a slow backend
    would look fast by those that made it.
    """

    def __init__(
        self,
        policy: DeadlinePolicy | None = None,
        *,
        edge: Quantiles | None = None,
        cloud: Quantiles | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy or DeadlinePolicy()
        self.edge = edge or Quantiles(clock=clock)
        self.cloud = cloud or Quantiles(clock=clock)
        self.refused = 0
        self._clock = clock

    def start(self, timeout: float | None) -> float:
        """Give the time at which a request's deadline is; `timeout`: seconds that the client named, None where it named none.

        Raises `Refused` DEADLINE_EXCEEDED where it has passed, or no leg could answer in what is left.
        """
        policy = self.policy
        if timeout is None:
            return math.inf if policy.default is None else self._clock() + policy.default
        timeout = min(timeout, policy.longest)
        usable = self._usable(timeout)
        quickest = min(self.edge.quantile(policy.hopeless) or 0.0, self.cloud.quantile(policy.hopeless) or 0.0)
        if usable <= quickest:
            raise self._too_short(timeout, quickest)
        return self._clock() + timeout

    def legs(self, deadline: float) -> Legs:
        """Share what is left: the edge leg ends early enough for the cloud leg; where both do not fit it has all, alone."""
        if deadline == math.inf:
            return Legs(math.inf, cloud_fits=True)
        now = self._clock()
        end = now + self._usable(deadline - now)
        reserve = self.cloud.quantile(self.policy.reserve) or 0.0
        needed = self.edge.quantile(self.policy.hopeless) or 0.0
        if end - reserve - now > needed:
            return Legs(end - reserve, cloud_fits=True)
        return Legs(end, cloud_fits=False)

    def cloud_timeout(self, deadline: float) -> float | None:
        """Give the seconds that the cloud is told (`grpc-timeout`): what is left minus the margin; None for no end.

        Raises `Refused` DEADLINE_EXCEEDED, the gateway's own, where it would be asked in vain.
        """
        if deadline == math.inf:
            return None
        left = deadline - self._clock()
        usable = self._usable(left)
        quickest = self.cloud.quantile(self.policy.hopeless) or 0.0
        if usable <= quickest:
            raise self._too_short(left, quickest)
        return usable

    def fair(self, timeout: float | None) -> bool:
        """Say whether a cloud that did not answer in this many seconds is to blame: what `RpcError.ours` says of the deadline.

        A cloud that swallows everything would never open its breaker if clients' deadlines counted for nothing.
        """
        return timeout is None or timeout >= min(self.policy.fair, 2 * (self.cloud.quantile(0.5) or math.inf))

    def _usable(self, left: float) -> float:
        return left - min(max(self.policy.margin, self.policy.margin_share * left), left / 2)

    def _too_short(self, left: float, quickest: float) -> Refused:
        self.refused += 1
        text = f"{max(left, 0.0) * 1000:.0f} ms are left, and an answer takes at least {quickest * 1000:.0f} ms"
        return Refused(Code.DEADLINE_EXCEEDED, text if left > 0 else "the deadline has passed")
