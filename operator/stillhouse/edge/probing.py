"""Asks the server of the larger model, once a start, whether it has a model of this name; until it has, now and then again.

Nothing waits for it, and no request is held up: a name that is wrong shows before the first answer that lacks the larger model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from stillhouse.edge.oip.models import Told, names_of
from stillhouse.edge.status import Code, Metadata, Reply, RpcError

__all__ = ["Probe"]

_PATIENCE_S, _AGAIN_S = 2.0, 30.0
_MOST = 20
"""Names that are told."""
_log = logging.getLogger(__name__)


class Sender(Protocol):
    """What is asked (`route.pool.Pool`)."""

    async def unary(self, method: str, message: bytes, *, metadata: Metadata = (), told_s: float | None = None) -> Reply:
        """Call a unary method."""
        ...


@dataclass(slots=True)
class Probe:
    """Looks for `model`.

    `state`: `unknown` before the first answer and where the server does not tell, `there`, `missing`, `unreachable`. `has`:
    names of the server's models where it tells them.
    `found(outputs)` is called once the model is there, with the names of its outputs.
    """

    model: str
    server: Sender
    found: Callable[[set[str]], None] = lambda outputs: None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    state: str = "unknown"
    has: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Ask until the model is there."""
        while True:
            before = self.state
            await self.once()
            if self.state == "there":
                if before == "missing":
                    _log.info("%s is there now", self.model)
                return
            if self.state == "missing" and before != "missing":
                _log.warning("%s", self.trouble)
            await self.sleep(_AGAIN_S)

    @property
    def words(self) -> str:
        """Return what is wrong, as everybody words it; empty where nothing is known to be."""
        if self.state == "unreachable":
            return f"{self.model}: its server did not answer"
        if self.state != "missing":
            return ""
        names = f"; it has {', '.join(self.has[:_MOST])}{', …' if len(self.has) > _MOST else ''}" if self.has else ""
        return f"{self.model}: its server has no model of this name{names}"

    @property
    def trouble(self) -> str:
        """Return the words where only people can help; a server that does not answer is the breaker's affair."""
        return self.words if self.state == "missing" else ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"model": self.model, "state": self.state, "has": self.has[:_MOST], "words": self.words}

    async def once(self) -> None:
        """Ask, for two seconds at most."""
        try:
            about = await Told(self.model, self._ask).metadata()
        except TimeoutError:
            self.state = "unreachable"
        except RpcError as error:
            # Who does not know us, or has no such method, has said nothing of the model.
            away = error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
            self.state = "missing" if error.code is Code.NOT_FOUND else "unreachable" if away else "unknown"
            if self.state == "missing":
                self.has = await names_of(self._ask)
        else:
            self.state, self.has = "there", []
            self.found({str(each.name) for each in about.outputs})

    async def _ask(self, method: str, body: bytes) -> bytes:
        async with asyncio.timeout(_PATIENCE_S):
            return (await self.server.unary(method, body, told_s=_PATIENCE_S)).message
