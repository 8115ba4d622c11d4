"""Who answers for the model of a step: backends somewhere, or a model in this process."""

from __future__ import annotations

import copy
from typing import Protocol

from stillhouse.edge.answering import Answering
from stillhouse.edge.oip.messages import SERVICE
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.status import Metadata, Reply
from stillhouse.edge.wire.call import Call

__all__ = ["Here", "Leg", "There"]


class Leg(Protocol):
    """A step's model."""

    @property
    def ready(self) -> bool:
        """Return whether it may be asked."""
        ...

    async def ask(self, call: Call, method: str, body: bytes, metadata: Metadata, told_s: float | None) -> Reply:
        """Call a unary method for a client's call; `told_s`: seconds that are left. Whoever calls ends it when they are over.

        Raises:
            RpcError: as it ended.
        """
        ...


class There:
    """Backends of a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def ready(self) -> bool:
        """Return whether there is a backend that takes calls."""
        return self._pool.ready

    async def ask(self, call: Call, method: str, body: bytes, metadata: Metadata, told_s: float | None) -> Reply:
        """Ask one of the backends."""
        return await self._pool.unary(method, body, metadata=metadata, told_s=told_s)


class Here:
    """A model that the gateway answers itself (`cascade.Solo`). It knows the call, and so the client's deadline alone."""

    def __init__(self, model: Answering) -> None:
        self._model = model

    @property
    def ready(self) -> bool:
        """Return whether the model can answer."""
        return self._model.ready

    async def ask(self, call: Call, method: str, body: bytes, metadata: Metadata, told_s: float | None) -> Reply:
        """Ask the model."""
        if method == f"/{SERVICE}/ModelInfer":
            return await self._model.infer(call, body)
        if method != call.method:  # to tell of the whole, a step may be asked for something else
            call = copy.copy(call)
            call.method = method
        return await self._model.about(call, body)
