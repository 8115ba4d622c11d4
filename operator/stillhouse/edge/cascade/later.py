"""Policy `queue`: requests that the larger model could not answer are kept on the disk, and answered by it later.

One process owns the file. The answer that comes later goes to `sink`, and stays with its key, so that the client finds it by
asking again with the same `idempotency-key`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from stillhouse.edge.away.courier import Courier
from stillhouse.edge.away.queue import DiskQueue
from stillhouse.edge.away.records import Limits, Outcome, QueueState, Record
from stillhouse.edge.cascade.remote import INFER
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.status import KEY, Code, Metadata, Reply, RpcError

__all__ = ["KEY", "Delivered", "Later", "LaterSettings"]

_REQUEST = message("ModelInferRequest")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaterSettings:
    """`path` of the queue's file, its bounds, and how many requests are delivered at once."""

    path: Path
    limits: Limits = field(default_factory=Limits)
    at_once: int = 4


@dataclass(frozen=True, slots=True)
class Delivered:
    """A late answer. `owner`: the client; `body`: a `ModelInferResponse`, as the client would have got it."""

    owner: str
    key: str
    model: str
    body: bytes


Answer = Callable[[bytes, Metadata], Awaitable[bytes]]


class Later:
    """The queue of this process and who carries it. Models join it with `join`."""

    def __init__(
        self, queue: DiskQueue, settings: LaterSettings, sink: Callable[[Delivered], Awaitable[None]] | None = None
    ) -> None:
        self.queue, self._sink = queue, sink
        self._answers: dict[str, Answer] = {}
        self._waits: list[Callable[[], float]] = []
        self.courier = Courier(queue, self._send, away=self._away, at_once=settings.at_once)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: LaterSettings, sink: Callable[[Delivered], Awaitable[None]] | None = None) -> Later:
        """Open the queue.

        `sink` gets each late answer at least once; while it fails, the answer is not delivered.

        Raises:
            QueueError: the file cannot be opened, or belongs to another process.
        """
        return cls(await DiskQueue.open(settings.path, settings.limits), settings, sink)

    def join(self, model: str, answer: Answer, away: Callable[[], float]) -> None:
        """Let a model's requests be delivered. `away`: seconds for which trying has no use."""
        self._answers[model] = answer
        self._waits.append(away)

    def start(self) -> None:
        """Begin to deliver; after all models have joined."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self.courier.run())
            self._task.add_done_callback(_ended)

    async def keep(self, owner: str, key: str | None, body: bytes) -> Outcome:
        """Keep a request; once this returns it is on the disk. Its metadata is not kept: a trace is over by then.

        Raises:
            QueueError, Refused: as of `DiskQueue.put`.
        """
        return await self.queue.put(INFER, body, owner=owner, key=key)

    async def known(self, owner: str, key: str, body: bytes) -> Reply | None:
        """Return the answer that was delivered meanwhile for this request; None where there is none (yet).

        Raises:
            RpcError: how its delivery ended, where not well. ALREADY_EXISTS: the key is another request's.
        """
        found = await self.queue.outcome(owner, key)
        if found is not None:
            await self.keep(owner, key, body)  # changes nothing, and refuses another request under the same key
        if found is None or found.state in (QueueState.WAITING, QueueState.READ):
            return None
        if found.state == QueueState.DELIVERED and not found.cut:
            return Reply(found.body)
        if found.cut:
            raise RpcError(Code.DATA_LOSS, "the late answer was too large to be kept")
        raise RpcError(found.code or Code.DEADLINE_EXCEEDED, found.message or "the request waited for too long", ours=True)

    async def taken(self, owner: str, key: str) -> None:
        """Drop a late answer that its client is known to have; else it stays as long as the queue keeps outcomes."""
        await self.queue.forget(owner, key)

    async def close(self) -> None:
        """Stop delivering and close the file. What is under way may be delivered twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.queue.close()

    def _away(self) -> float:
        return min((wait() for wait in self._waits), default=0.0)

    async def _send(self, record: Record) -> bytes:
        request = record.request
        model = str(parsed(_REQUEST, request.body).model_name)
        answer = self._answers.get(model)
        if answer is None:
            raise RpcError(Code.UNAVAILABLE, f"the model {model[:100]!r} is not served here now")
        body = await answer(request.body, (*request.headers, (KEY, request.key)))
        if self._sink is not None:
            try:
                await self._sink(Delivered(request.owner, request.key, model, body))
            except Exception as error:
                # The sink's own trouble says nothing of the request: it is tried until it is too old.
                raise RpcError(Code.UNAVAILABLE, f"the sink failed: {error}") from error
        return body


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("the courier ended", exc_info=task.exception())
