"""The door of the gateway: who may come in, how often, and how many at once. What is refused here costs no backend anything."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from stillhouse.edge.away.overload import Admission
from stillhouse.edge.guard.clients import Clients, bearer
from stillhouse.edge.guard.limits import Limiter
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.edge.status import Code, Refused, Reply
from stillhouse.edge.wire.call import Call

__all__ = ["Door", "refused"]


class Door:
    """`limits`: of each client, None: none. `admission`: of all together."""

    def __init__(self, clients: Clients, limiter: Limiter | None, admission: Admission) -> None:
        self._clients, self._limiter, self.admission = clients, limiter, admission

    def client(self, call: Call) -> str:
        """Return who makes a call.

        Raises:
            Refused: UNAUTHENTICATED; nobody that is known. RESOURCE_EXHAUSTED: too many tokens were tried from there.
        """
        if call.client is not None:
            return call.client
        token = bearer(call.header("authorization")) or call.header("x-api-key")
        found = self._clients.who(token, call.peer.names, call.peer.address)
        if isinstance(found, Refusal):
            raise refused(found)
        call.client = found
        return found

    async def through(self, call: Call, work: Callable[[], Awaitable[Reply]]) -> Reply:
        """Do the work of an inference within the limits.

        Raises:
            Refused: the client is not known or asks too much, or there are too many under way.
            RpcError: as the work ended.
        """
        client = self.client(call)
        limiter = self._limiter
        if limiter is not None and (refusal := limiter.enter(client)) is not None:
            raise refused(refusal)
        try:
            admission = self.admission
            if not admission.try_enter():
                await admission.enter(math.inf if call.deadline is None else call.deadline)
            took: float | None = None
            loop = asyncio.get_running_loop()
            begun = loop.time()
            try:
                reply = await work()
                took = loop.time() - begun
            finally:
                admission.leave(took)
            return reply
        finally:
            if limiter is not None:
                limiter.leave(client)


def refused(refusal: Refusal) -> Refused:
    """Return a refusal as the error that the client gets."""
    error = Refused(Code[refusal.status], str(refusal))
    if refusal.retry_after is not None:
        error.pushback = str(math.ceil(refusal.retry_after * 1000))
    return error
