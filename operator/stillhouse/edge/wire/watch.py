"""What can end a call before its handler does: its deadline, a body that does not come, a client that has gone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from httpunk.exceptions import HTTPunkError

__all__ = ["Watch"]

_SOON_S = 0.05
"""A call that takes longer is watched for a client that has gone; of shorter ones there is nothing to be saved."""


class Watch:
    """Cancels the task that it is made in; `late` says whether it was because a time was over.

    `asyncio.timeout` does a part of this, at three times its price: it is a third of what a call costs.
    """

    __slots__ = ("_body_until", "_deadline", "_expired", "_gone", "_handle", "_loop", "_request", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, request: Any, deadline: float | None, body_s: float | None) -> None:
        self._loop, self._request, self._deadline = loop, request, deadline
        self._task = asyncio.current_task(loop)
        self._gone: asyncio.Task[None] | None = None
        self._expired = False
        now = loop.time()
        self._body_until = None if body_s is None else now + body_s
        first = now + _SOON_S
        self._handle = loop.call_at(first if deadline is None or deadline > first else deadline, self._look)

    def body_is_there(self) -> None:
        """Say that the request has come whole."""
        self._body_until = None

    def end(self) -> None:
        """Stop watching."""
        self._handle.cancel()
        if self._gone is not None:
            self._gone.cancel()

    def late(self) -> bool:
        """Return whether the task that was cancelled ran out of time, and take the cancellation back if so; else it stands."""
        if self._expired and self._task is not None:
            self._task.uncancel()
        return self._expired

    def _look(self) -> None:
        assert self._task is not None
        ends = [each for each in (self._deadline, self._body_until) if each is not None]
        if ends and self._loop.time() >= min(ends):
            self._expired = True
            self._task.cancel()
            return
        if self._gone is None:
            self._gone = self._loop.create_task(self._leave_with_the_client(self._task))
        if ends:
            self._handle = self._loop.call_at(min(ends), self._look)

    async def _leave_with_the_client(self, task: asyncio.Task[Any]) -> None:
        with contextlib.suppress(HTTPunkError):  # the connection broke: the same
            await self._request.reset_received()
        task.cancel()
