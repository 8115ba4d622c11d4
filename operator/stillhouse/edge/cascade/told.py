"""What the larger model says of itself: whether its labels are the small one's, and in which order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from stillhouse.edge.oip.models import Ask, Told
from stillhouse.edge.status import Code, RpcError

__all__ = ["Labels", "order_of"]

_AGAIN_S = 60.0
"""A server that restarts behind its address may serve another model: how old what it said may become."""
_AWAY = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED})
"""Nobody is there to say anything, of the labels or else. Other codes are a server's that tells no configuration."""
_log = logging.getLogger(__name__)


def order_of(theirs: Sequence[str], ours: Sequence[str]) -> list[int] | None:
    """Return where each of our labels stands among theirs; None where the sets differ."""
    if len(theirs) != len(ours) or set(theirs) != set(ours) or len(set(ours)) != len(ours):
        return list(range(len(ours))) if tuple(theirs) == tuple(ours) else None
    return [theirs.index(each) for each in ours]


def _writable(text: str) -> bool:
    """Say whether a text that came as JSON has a form in bytes: half of a surrogate pair has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Labels:
    """Asks for `stillhouse.labels` before the first request, after one that failed, when backends come or go, and every minute.

    `ask` sends a method and a body; `changes`: how often backends have come or gone. `state`: `unknown` (not asked yet), `same`,
    `reordered`, `not told`, or `differ`; `trouble` has words where the model is not used.
    """

    def __init__(
        self,
        model: str,
        labels: Sequence[str],
        ask: Ask,
        *,
        changes: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self.trouble = "unknown", ""
        self._model, self._labels, self._changes, self._clock = model, tuple(labels), changes, clock
        self._server = Told(model, ask)
        self._order: list[int] | None = None
        self._seen: int | None = None
        self._next = 0.0
        self._lock = asyncio.Lock()

    def doubt(self) -> None:
        """Ask again before the next call: one failed, and who answers now may be another server."""
        self._seen = None

    async def order(self) -> list[int] | None:
        """Return where each of the small model's labels stands in an answer; None: where it stands in the small model's.

        Raises:
            RpcError: INTERNAL; its labels are others. As the question ended, where nobody is there.
        """
        if self._stale():
            async with self._lock:
                if self._stale():
                    await self._read()
        if self.trouble:
            raise RpcError(Code.INTERNAL, self.trouble)
        return self._order

    def _stale(self) -> bool:
        return self._seen != self._changes() or self._clock() >= self._next

    async def _read(self) -> None:
        changes = self._changes()
        told: Any = None
        try:
            told = await self._server.labels()
        except RpcError as error:
            if error.code in _AWAY:
                raise
        except ValueError:
            told = None
        self._seen, self._next = changes, self._clock() + _AGAIN_S
        self._take(told)

    def _take(self, told: Any) -> None:
        before, self.trouble, self._order = (self.state, self.trouble), "", None
        if not isinstance(told, list) or not told or not all(isinstance(each, str) and _writable(each) for each in told):
            self.state = "not told"
        elif (order := order_of(told, self._labels)) is None:
            self.state = "differ"
            theirs, ours = ", ".join(told)[:200], ", ".join(self._labels)[:200]
            self.trouble = f"the larger model {self._model} has other labels than the small one: {theirs}; not {ours}"
        elif order == list(range(len(order))):
            self.state = "same"
        else:
            self.state, self._order = "reordered", order
        if (self.state, self.trouble) == before:
            return
        if self.state == "differ":
            _log.error("%s. It is not asked", self.trouble)
        elif self.state == "not told":
            _log.warning("the larger model %s does not tell its labels: they are taken to be the small one's", self._model)
        elif self.state == "reordered":
            _log.warning("the larger model %s has its labels in another order: its answers are put into ours", self._model)
