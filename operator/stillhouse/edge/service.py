"""The Open Inference Protocol at the front: what is answered here, what goes to a model's backends, what is not offered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stillhouse.edge.answering import OF_A_MODEL, Answering
from stillhouse.edge.door import Door, refused
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.edge.metrics import Counts
from stillhouse.edge.oip.asked import id_of, inference_of, model_of
from stillhouse.edge.oip.marked import is_marked, plain
from stillhouse.edge.oip.messages import METHODS, SERVICE, message
from stillhouse.edge.oip.standard import Health, reflection
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.onward import left_of, onward
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.screening.building import Guarding
from stillhouse.edge.screening.screen import Screened
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.tracing.spans import Tracing
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.server import Stream, Unary

__all__ = ["Service"]

_STREAM, _INFER_METHOD = f"/{SERVICE}/ModelStreamInfer", f"/{SERVICE}/ModelInfer"
_PROBED = ("ModelReady",)
"""What is asked every other second, by nobody in particular, is not recorded."""


@dataclass(slots=True)
class _Asking:
    """An inference under way: its message, the model that it names, and as it went on."""

    request: Any = None
    name: str = ""
    screened: Screened | None = None


class Service:
    """The protocol for some models, each with the pool of its backends. `version` is that of this program.

    `answering`: models that answer for themselves; no pool has their names. `tracing`: makes a span of each inference.
    `guarding`: looks at each before it goes on, and records what became of it. `largest`: bytes of a request, of one with encoded
    tensors also when they are plain.
    """

    def __init__(
        self,
        models: Mapping[str, Pool],
        version: str,
        door: Door,
        counts: Counts,
        answering: Mapping[str, Answering] | None = None,
        tracing: Tracing | None = None,
        guarding: Guarding | None = None,
        largest: int = 64 << 20,
    ) -> None:
        self._models, self._version, self._answering = dict(models), version, dict(answering or {})
        self._inference: Unary = self._infer if tracing is None else tracing.around(self._infer)
        self.door, self.counts, self._largest = door, counts, largest
        self._screens = guarding.screens if guarding is not None else {}
        self._recorder = guarding.recorder if guarding is not None else None
        self._kinds = {name: (message(f"{name}Request"), message(f"{name}Response")) for name in METHODS}
        self._stream_response = message("ModelStreamInferResponse")

    def methods(self) -> tuple[dict[str, Unary], dict[str, Stream]]:
        """Return the handlers of every method that is offered, by path."""
        health_unary, health_streams = Health(self._serves).methods()
        unary: dict[str, Unary] = {
            f"/{SERVICE}/ServerLive": self._always("ServerLive", lambda: {"live": True}),
            f"/{SERVICE}/ServerReady": self._always("ServerReady", lambda: {"ready": self._serves("") is True}),
            f"/{SERVICE}/ServerMetadata": self._always("ServerMetadata", self._metadata),
            f"/{SERVICE}/RepositoryIndex": self._recorded(self._index),
            f"/{SERVICE}/ModelInfer": self._inference,
            **{f"/{SERVICE}/{name}": self._recorded(self._forward) for name in OF_A_MODEL if name not in _PROBED},
            **{f"/{SERVICE}/{name}": self._forward for name in _PROBED},
            **health_unary,
        }
        return unary, {_STREAM: self._stream, **health_streams, **reflection()}

    def pool(self, model: str) -> Pool:
        """Return a model's backends.

        Raises:
            RpcError: NOT_FOUND; there is no such model.
        """
        pool = self._models.get(model)
        if pool is None:
            raise RpcError(Code.NOT_FOUND, f"there is no model {model[:100]!r}; there is {', '.join(self._names())[:400]}")
        return pool

    def _names(self) -> list[str]:
        return sorted([*self._models, *self._answering])

    def _serves(self, service: str) -> bool | None:
        if service in self._models:
            return self._models[service].ready
        if service in self._answering:
            return self._answering[service].ready
        if service not in ("", SERVICE):
            return None
        return all(self._serves(each) for each in self._names())

    def _metadata(self) -> dict[str, object]:
        return {"name": "stillhouse-gateway", "version": self._version, "extensions": ["classification", "statistics"]}

    def _always(self, name: str, told: Callable[[], Mapping[str, object]]) -> Unary:
        response = self._kinds[name][1]

        async def handler(call: Call, _: bytes) -> Reply:
            return Reply(response(**told()).SerializeToString())

        return handler

    async def _index(self, call: Call, body: bytes) -> Reply:
        self.door.client(call)
        request = parsed(self._kinds["RepositoryIndex"][0], body)
        response = self._kinds["RepositoryIndex"][1]()
        for name in self._names():
            ready = self._serves(name)
            if ready or not request.ready:
                response.models.add(name=name, version="1", state="READY" if ready else "UNAVAILABLE")
        return Reply(response.SerializeToString())

    async def _infer(self, call: Call, body: bytes) -> Reply:
        loop = asyncio.get_running_loop()
        begun, model, code, asking = loop.time(), "", Code.CANCELLED, _Asking()
        reply: Reply | None = None
        unrecorded: Refusal | None = None
        recorder = self._recorder
        try:
            if recorder is not None and (why := recorder.journal.blocked()) is not None:
                raise refused(why)
            self.door.client(call)
            asking.request = request = inference_of(body)
            asking.name = named = str(request.model_name)
            if named in self._models or named in self._answering:
                model = named  # a name that there is, and no client's, for whoever counts
            if call.span is not None and model:
                call.span.set("stillhouse.model", model)
            reply = await self.door.through(call, lambda: self._work(named, call, body, asking))
            code = Code.OK
        except RpcError as error:
            code = error.code
            raise
        finally:
            took = loop.time() - begun
            if recorder is not None:
                raw = asking.screened is not None or not self._screens
                masked = asking.screened.masked if asking.screened is not None else None
                unrecorded = recorder.inference(
                    call, asking.name, len(body), asking.request, code, reply, took, masked=masked, raw=raw
                )
                if unrecorded is not None and code is Code.OK:
                    code = Code.UNAVAILABLE
            self.counts.count(model, code, took)
        if unrecorded is not None:
            raise refused(unrecorded)
        return reply

    async def _work(self, model: str, call: Call, body: bytes, asking: _Asking) -> Reply:
        answering = self._answering.get(model)
        pool = None if answering is not None else self.pool(model)
        screen = self._screens.get(model)
        if screen is not None:
            asking.screened = await screen.screen(body, asking.request)
            body = asking.screened.body
        elif is_marked(asking.request, body):
            body = await plain(asking.request, self._largest)
        if answering is not None:
            return await answering.infer(call, body)
        assert pool is not None
        return await pool.unary(_INFER_METHOD, body, metadata=onward(call), told_s=left_of(call))

    def known(self, call: Call) -> str:
        """Return who makes a call, before its body is there; who is not known is recorded.

        Raises:
            Refused: as of `Door.client`.
        """
        try:
            return self.door.client(call)
        except RpcError as error:
            if self._recorder is not None:
                self._recorder.inference(call, "", 0, None, error.code, None, 0.0)
            raise

    def _recorded(self, handler: Unary) -> Unary:
        """Return a handler of calls that are no inferences, with a record of each."""
        recorder = self._recorder
        if recorder is None:
            return handler

        async def recorded(call: Call, body: bytes) -> Reply:
            model = ""
            code = Code.CANCELLED
            try:
                if (why := recorder.journal.blocked()) is not None:
                    raise refused(why)
                if handler != self._index:
                    model = model_of(body)
                reply = await handler(call, body)
                code = Code.OK
            except RpcError as error:
                code = error.code
                raise
            finally:
                unrecorded = recorder.other(call, model, code)
            if unrecorded is not None:
                raise refused(unrecorded)
            return reply

        return recorded

    async def _forward(self, call: Call, body: bytes) -> Reply:
        self.door.client(call)
        model = model_of(body)
        answering = self._answering.get(model)
        if answering is not None:
            return await answering.about(call, body)
        return await self.pool(model).unary(call.method, body, metadata=onward(call), told_s=left_of(call))

    async def _stream(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Answer each request of a stream as if it had come alone; one that fails is told in its answer, and ends nothing."""
        async for body in messages:
            call.client = None  # a stream may outlive its token
            response = self._stream_response()
            try:
                reply = await self._inference(call, body)
                response.infer_response.MergeFromString(reply.message)
            except RpcError as error:
                response.error_message = str(error)
                response.infer_response.id = id_of(body)
            yield response.SerializeToString()
