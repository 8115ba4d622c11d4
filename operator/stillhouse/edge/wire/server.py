"""A gRPC server. Handlers take and return bytes; beside it, plain HTTP on the same port goes to a handler of its own."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from httpunk import H1Server, H2Server, HeaderMap
from httpunk.asyncio import AutoServerProtocol, ServerConnections
from httpunk.exceptions import HTTPunkError
from httpunk.util.auto import Builder

from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.answers import HEADERS, ended, trailers_of
from stillhouse.edge.wire.asking import pieces
from stillhouse.edge.wire.call import Call, Limits, Load, Peer
from stillhouse.edge.wire.framing import ENCODINGS, Deframer, framed, single, whole
from stillhouse.edge.wire.headers import pairs, timeout_of
from stillhouse.edge.wire.lighter import LighterBackend
from stillhouse.edge.wire.room import Held, Room
from stillhouse.edge.wire.watch import Watch

__all__ = ["Http", "Server", "Stream", "Unary"]

_GRPC = b"application/grpc"
_OK = [("grpc-status", "0")]
_BACKEND = LighterBackend()
_PLAIN, _FINE = HeaderMap(HEADERS), HeaderMap(_OK)
_OF_STRANGERS = _HEAD_BYTES = 64 << 10
"""What a stranger's message may be inflated to, and what an HTTP/1 head may have before it is whole."""

_log = logging.getLogger(__name__)


Unary = Callable[[Call, bytes], Awaitable[Reply]]
Stream = Callable[[Call, AsyncIterator[bytes]], AsyncIterator[bytes]]
Http = Callable[[Any, Peer], Awaitable[None]]
"""Answers a plain HTTP request (`httpunk`'s: method, path, headers, `read()`, `respond()`)."""


class Server:
    """Serves `unary` and `streams` by method (`/package.Service/Method`), and `http` whatever is not gRPC.

    `otherwise` takes the unary calls of other methods. `known` raises where nobody knows who makes a call: what such a one has
    compressed is inflated to 64 KiB at most.
    """

    def __init__(
        self,
        unary: Mapping[str, Unary],
        streams: Mapping[str, Stream] | None = None,
        *,
        otherwise: Unary | None = None,
        http: Http | None = None,
        limits: Limits | None = None,
        known: Callable[[Call], object] | None = None,
    ) -> None:
        self._known = known
        self._unary, self._streams, self._otherwise, self._http = dict(unary), dict(streams or {}), otherwise, http
        self.limits = limits or Limits()
        self._connections = ServerConnections()
        self._listener: asyncio.Server | None = None
        self._loads: set[Load] = set()
        self._unread = 0
        self.calls = Room(self.limits.calls, "calls")
        self.arriving = Room(self.limits.arriving, "bytes of messages that have not come whole")

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None, *, reuse_port: bool = False) -> int:
        """Listen; return the port (0 takes any free one). `reuse_port`: other processes listen at the same one.

        Raises:
            OSError: the port is taken.
        """
        server = self

        class Protocol(_Protocol):
            owner = server

        loop = asyncio.get_running_loop()
        factory = self._connections.track(Protocol)
        self._listener = await loop.create_server(factory, host, port, ssl=tls, reuse_port=reuse_port or None, backlog=1024)
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._connections.count()

    async def drain(self, grace_s: float) -> None:
        """Take no new connections and no new calls (GOAWAY); wait for what is under way, and end the rest after `grace_s`."""
        if self._listener is not None:
            self._listener.close()
        await self._connections.shutdown(timeout=grace_s)

    async def answer(self, request: Any, peer: Peer) -> None:
        """Answer one request of a connection."""
        one = Held(self.calls, peer.load)
        try:
            one.more(1)
        except RpcError as error:
            await self._turned_away(request, error)
            return
        try:
            await self._answer(request, peer)
        finally:
            one.end()

    async def _turned_away(self, request: Any, error: RpcError) -> None:
        if (request.headers.get("content-type") or b"").startswith(_GRPC):
            await ended(request, error)
        else:
            await request.respond(429, headers=[("content-type", "text/plain")], body=f"{error.message}\n".encode())

    async def _answer(self, request: Any, peer: Peer) -> None:
        kind = request.headers.get("content-type")
        if kind is None or not kind.startswith(_GRPC) or request.method != "POST":
            if self._http is not None:
                await self._http(request, peer)
            else:
                await request.respond(415, headers=[("content-type", "text/plain")], body=b"gRPC is spoken here\n")
            return
        try:
            if peer.load is not None and peer.load.unread > self.limits.unread:
                raise RpcError(Code.RESOURCE_EXHAUSTED, "this connection does not read its answers")
            await self._grpc(request, peer)
        except RpcError as error:
            await ended(request, error)
        except HTTPunkError:
            raise  # the client has gone: there is nobody to answer
        except Exception:
            _log.exception("a handler of %s failed", request.path)
            await ended(request, RpcError(Code.INTERNAL, "the gateway failed; its log says why"))

    async def _grpc(self, request: Any, peer: Peer) -> None:
        left = timeout_of(request.headers.get("grpc-timeout"))
        loop = asyncio.get_running_loop()
        call = Call(request, peer, None if left is None else loop.time() + left)
        stream = self._streams.get(call.method)
        if stream is not None:
            await self._stream(request, call, stream, peer)
            return
        handler = self._unary.get(call.method, self._otherwise)
        if handler is None:
            raise RpcError(Code.UNIMPLEMENTED, f"there is no method {call.method[:200]}")
        watch = Watch(loop, request, call.deadline, self.limits.body_s)
        held = Held.arriving(peer.load)
        try:
            body = await whole(request, self.limits.message, "a message", held.more)
            watch.body_is_there()
            held.end()
            encoding = _encoding(request)
            reply = await handler(call, single(body, encoding, self._largest(call, encoding)))
        except asyncio.CancelledError:
            if not watch.late():
                raise
            raise RpcError(Code.DEADLINE_EXCEEDED, "the deadline has passed") from None
        finally:
            watch.end()
            held.end()
        headers = HeaderMap(HEADERS + pairs(reply.initial)) if reply.initial else _PLAIN
        trailers = HeaderMap(_OK + pairs(reply.trailing)) if reply.trailing else _FINE
        body = framed(reply.message)
        self._waits(peer, len(body))
        try:
            await request.respond(200, headers=headers, body=body, trailers=trailers)
        finally:
            self._waits(peer, -len(body))

    def _largest(self, call: Call, encoding: str) -> int:
        """Return how large a message may become. A few KB of a stranger must not take the time that 64 MiB do."""
        if encoding != "identity" and self._known is not None:
            try:
                self._known(call)
            except RpcError:
                return min(self.limits.message, _OF_STRANGERS)
        return self.limits.message

    def _waits(self, peer: Peer, size: int) -> None:
        """Count what waits for a client to read it. A client that never reads must not take the memory of the others."""
        load = peer.load
        if load is None:
            return
        load.unread += size
        self._unread += size
        if load.unread:
            self._loads.add(load)
        else:
            self._loads.discard(load)
        if self._unread > self.limits.unread_all and size > 0:
            most = max(self._loads, key=lambda each: each.unread)
            _log.warning("a client leaves %d bytes of answers unread; its connection is ended", most.unread)
            most.end()

    async def _stream(self, request: Any, call: Call, handler: Stream, peer: Peer) -> None:
        encoding = _encoding(request)
        deframer = Deframer(encoding, self._largest(call, encoding))
        held = Held.arriving(peer.load)

        async def messages() -> AsyncIterator[bytes]:
            async for piece in pieces(request):
                messages = deframer.feed(piece)
                held.now(deframer.waiting)
                for message in messages:
                    yield message
            deframer.end()

        out = await request.send_response(200, headers=HEADERS)
        trailers = _OK
        watch = Watch(asyncio.get_running_loop(), request, call.deadline, None)
        try:
            async for message in handler(call, messages()):
                self._waits(peer, len(message))
                try:
                    await out.send_data(framed(message))
                finally:
                    self._waits(peer, -len(message))
        except asyncio.CancelledError:
            if not watch.late():
                raise
            trailers = trailers_of(RpcError(Code.DEADLINE_EXCEEDED, "the deadline has passed"))
        except RpcError as error:
            trailers = trailers_of(error)
        finally:
            watch.end()
            held.end()
        await out.send_trailers(trailers)


class _Protocol(AutoServerProtocol):
    """One connection. HTTP/2 with our limits; HTTP/1 for whoever asks in plain HTTP."""

    owner: Server
    _silent: asyncio.TimerHandle | None = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._backend = _BACKEND

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[no-untyped-call]
        if self.owner.connections > self.owner.limits.connections:
            transport.abort()
            return
        self.peer = Peer.of(transport, Load(transport.abort, self.owner.arriving))
        if first := self.owner.limits.first_s:
            self._silent = self._loop.call_later(first, transport.abort)
        if age := self.owner.limits.age_s:
            self._aging = self._loop.call_later(age * random.uniform(0.9, 1.1), self._age)

    def eof_received(self) -> bool | None:
        # Over TLS no connection can stay half open, and asyncio would warn at the end of every one.
        stays: bool | None = super().eof_received()  # type: ignore[no-untyped-call]
        transport = self._transport
        return None if transport is not None and transport.get_extra_info("sslcontext") is not None else stays

    def connection_lost(self, exc: Exception | None) -> None:
        if self._silent is not None:
            self._silent.cancel()
        super().connection_lost(exc)  # type: ignore[no-untyped-call]

    def _age(self) -> None:
        self._leaving = self._loop.create_task(self.graceful_shutdown())

    async def _make_server(self) -> H1Server | H2Server:
        limits = self.owner.limits
        builder = Builder(backend=_BACKEND)
        builder.http1().max_buf_size(_HEAD_BYTES)
        # No date: gRPC has no use for one, and every answer would carry it.
        builder.http2().max_concurrent_streams(limits.streams).max_header_list_size(limits.headers).auto_date_header(False)
        return await builder.serve_connection(self, cancel=self._sniff_cancel)

    async def handle(self, request: Any) -> None:
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None
        await self.owner.answer(request, self.peer)


def _encoding(request: Any) -> str:
    value: bytes | None = request.headers.get("grpc-encoding")
    if value is None:
        return "identity"
    encoding = value.decode("latin-1")
    if encoding not in ENCODINGS.split(","):
        raise RpcError(Code.UNIMPLEMENTED, f"grpc-encoding {encoding[:40]}: {ENCODINGS} are understood")
    return encoding
