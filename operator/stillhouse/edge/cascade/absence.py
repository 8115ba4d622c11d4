"""What a client gets in the place of a larger model that is away: what there is, or a refusal; and, kept, the answer later."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from stillhouse.edge.away.records import QueueError
from stillhouse.edge.cascade.answer import Told
from stillhouse.edge.cascade.away import AwayPolicy, Way, refusal
from stillhouse.edge.cascade.figures import Figures
from stillhouse.edge.cascade.later import KEY, Later
from stillhouse.edge.cascade.legs import Leg
from stillhouse.edge.status import Code, Refused, Reply, RpcError
from stillhouse.edge.wire.call import Call

__all__ = ["Absence"]

_TELL_S = 60.0
"""Between two lines of the log on why the larger model is away."""
_log = logging.getLogger(__name__)


class Absence:
    """Does what `policy` says while `last`, the last leg, is away. `later`: needed by policy `queue`; `who`: as of `Cascade`."""

    def __init__(
        self,
        policy: AwayPolicy,
        last: Leg,
        later: Later | None,
        figures: Figures,
        who: Callable[[Call], str],
        clock: Callable[[], float],
    ) -> None:
        self._policy, self._last, self._later, self._figures, self._who, self._clock = policy, last, later, figures, who, clock
        self._tell_again = -math.inf

    @property
    def retry_in(self) -> float:
        """Return in how many seconds the last leg may be asked again."""
        return self._last.breaker.retry_in if isinstance(self._last, Way) else 0.0

    async def known(self, call: Call, body: bytes) -> Reply | None:
        """Return what has become of a request that the client sends again under its key; None: it is new, or has no key.

        Raises:
            RpcError: as of `Later.known`.
        """
        if self._later is None or (key := _key(call)) is None:
            return None
        return await self._later.known(self._who(call), key, body)

    async def answer(self, error: RpcError, call: Call, body: bytes, told: Told) -> None:
        """Note in `told` what is done about a last leg that ended in `error`.

        Raises:
            RpcError: the policy is to fail. QueueError: ALREADY_EXISTS; the key belongs to another request.
        """
        now = self._clock()
        if now >= self._tell_again and not isinstance(error, Refused):  # a breaker that refuses is not why
            self._tell_again = now + _TELL_S
            _log.warning("%s does not answer: %s", self._last.variant, error)
        if self._policy == "fail":
            self._figures.away["fail"] += 1
            raise refusal(error, self.retry_in)
        told.away = "answer"
        if self._policy == "queue":
            assert self._later is not None  # looked at when the cascade was built
            try:
                kept = await self._later.keep(self._who(call), _key(call), body)
            except QueueError as refused:
                if refused.code == Code.ALREADY_EXISTS:
                    raise
                # Full, or the disk fails: nothing is promised then, and what there is of an answer is given all the same.
                self._figures.away["queue_refused"] += 1
                return
            told.away, told.queued = "queue", kept.key
        self._figures.away[told.away] += 1


def _key(call: Call) -> str | None:
    value = call.header(KEY)
    return None if value is None else value.decode("latin-1")
