"""What answers for a model: a pool of its backends, or a pipeline of several models."""

from __future__ import annotations

from typing import Protocol

from stillhouse.edge.route.pool import Backend
from stillhouse.edge.status import Metadata, Reply

__all__ = ["Answering"]


class Answering(Protocol):
    """The part of `Pool` that the service needs."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Return the backends that it may ask; where one of them has a weight, it can answer."""
        ...

    async def unary(self, method: str, message: bytes, *, metadata: Metadata = (), told_s: float | None = None) -> Reply:
        """Call a unary method of the protocol; `told_s`: seconds that are left.

        Raises:
            RpcError: as it ended.
        """
        ...
