"""A gRPC client of one address."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

from httpunk import HeaderMap
from httpunk.exceptions import GoAwayError, HTTPunkError, StreamResetError

from stillhouse.edge.status import Code, Metadata, Reply, RpcError, code_of_http, unpacked
from stillhouse.edge.wire.asking import asked, pieces
from stillhouse.edge.wire.framing import Deframer, framed, single, whole
from stillhouse.edge.wire.headers import metadata_of, pairs, timeout_text
from stillhouse.edge.wire.links import Links, words_of

__all__ = ["Channel"]

_REFUSED, _CANCELLED, _CALM = 0x7, 0x8, 0xB
"""RST_STREAM's reasons (RFC 9113, 7): REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM."""
_CODES = {_REFUSED: Code.UNAVAILABLE, _CANCELLED: Code.CANCELLED, _CALM: Code.RESOURCE_EXHAUSTED}
_USUAL = 1
"""Headers of an answer without metadata: its content type."""
_ALWAYS = [("te", "trailers"), ("content-type", "application/grpc"), ("grpc-accept-encoding", "identity,gzip,deflate")]
_BARE = HeaderMap(_ALWAYS)
_TRIES = 3
"""Calls that no server has begun with are sent again over a new connection: as many are on their way out one after the other."""


class Channel:
    """Calls to one server. `address` is `host:port`; `largest`: bytes of an answer. `in_flight`: calls that have not ended.

    `token` returns what is shown with every call as `authorization: Bearer`, empty: nothing.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ssl.SSLContext | None = None,
        authority: str = "",
        server_name: str = "",
        connect_s: float = 5.0,
        largest: int = 64 << 20,
        token: Callable[[], str] | None = None,
    ) -> None:
        self.address = address
        self._token = token
        self._links = Links(address, tls=tls, authority=authority, server_name=server_name, connect_s=connect_s)
        self._largest = largest
        self.in_flight = 0

    async def unary(
        self,
        method: str,
        message: bytes,
        *,
        metadata: Metadata = (),
        timeout_s: float | None = None,
        told_s: float | None = None,
    ) -> Reply:
        """Call a unary method. `timeout_s` ends it here and is told to the server; `told_s` is told alone: whoever calls ends it.

        Raises:
            RpcError: it ended with another status than OK; UNAVAILABLE where the server cannot be reached.
        """
        headers = _headers(self._shown(metadata), told_s if timeout_s is None else timeout_s)
        self.in_flight += 1
        try:
            if timeout_s is None:
                return await self._tried(method, framed(message), headers)
            async with asyncio.timeout(timeout_s):
                return await self._tried(method, framed(message), headers)
        except TimeoutError:
            raise RpcError(Code.DEADLINE_EXCEEDED, "the deadline has passed") from None
        finally:
            self.in_flight -= 1

    def _shown(self, metadata: Metadata) -> Metadata:
        token = self._token() if self._token is not None else ""
        return (*metadata, ("authorization", f"Bearer {token}")) if token else metadata

    async def _tried(self, method: str, body: bytes, headers: HeaderMap) -> Reply:
        for _ in range(_TRIES - 1):
            try:
                return await self._once(method, body, headers)
            except RpcError as error:
                # The connection was on its way out, and no server has seen the call.
                if not error.unprocessed or self._links.failures:
                    raise
        return await self._once(method, body, headers)

    async def stream(
        self, method: str, messages: AsyncIterator[bytes], *, metadata: Metadata = (), timeout_s: float | None = None
    ) -> AsyncIterator[bytes]:
        """Call a streaming method.

        Raises:
            RpcError: as of a unary one.
        """

        async def body() -> AsyncIterator[bytes]:
            async for message in messages:
                yield framed(message)

        self.in_flight += 1
        try:
            async with asyncio.timeout(timeout_s):
                with await self._links.link() as link:
                    response = await asked(link.connection, method, _headers(self._shown(metadata), timeout_s), body())
                    async with response:
                        _raise_http(response)
                        deframer = Deframer(_encoding(response), self._largest)
                        async for piece in pieces(response):
                            for message in deframer.feed(piece):
                                yield message
                        deframer.end()
                        _raise_status(_trailers(response))
        except TimeoutError:
            raise RpcError(Code.DEADLINE_EXCEEDED, "the deadline has passed") from None
        except (HTTPunkError, OSError) as error:
            raise _broken(error) from error
        finally:
            self.in_flight -= 1

    def leave(self) -> None:
        """End the connection as soon as nothing is under way in it; a later call would make another one."""
        self._links.leave()

    async def close(self) -> None:
        """End the connection now, and what is under way in it."""
        await self._links.close()

    async def _once(self, method: str, body: bytes, headers: HeaderMap) -> Reply:
        try:
            with await self._links.link() as link:
                response = await asked(link.connection, method, headers, body)
                try:
                    _raise_http(response)
                    answer = await whole(response, self._largest, "an answer")
                except BaseException:
                    await response.aclose()  # of one that was read to its end nothing is left to be closed
                    raise
        except (HTTPunkError, OSError) as error:
            raise _broken(error) from error
        trailers = _trailers(response)
        _raise_status(trailers)
        return Reply(
            single(answer, _encoding(response), self._largest),
            metadata_of(trailers.items()) if len(trailers) > 1 else (),
            metadata_of(response.headers.items()) if len(response.headers) > _USUAL else (),
        )


def _headers(metadata: Metadata, timeout_s: float | None) -> HeaderMap:
    if not metadata and timeout_s is None:
        return _BARE
    found = [*_ALWAYS]
    if timeout_s is not None:
        found.append(("grpc-timeout", timeout_text(timeout_s)))
    return HeaderMap(found + pairs(metadata) if metadata else found)


def _raise_http(response: Any) -> None:
    if response.status != 200:
        raise RpcError(code_of_http(response.status), f"HTTP {response.status}")


def _trailers(response: Any) -> Any:
    """Return the trailers; of an answer without a message they are its headers ("Trailers-Only")."""
    return response.trailers if response.trailers is not None else response.headers


def _raise_status(trailers: Any) -> None:
    status = trailers.get("grpc-status")
    if status == b"0":
        return
    if status is None:
        raise RpcError(Code.INTERNAL, "the answer ends without a status")
    try:
        code = Code(int(status))
    except ValueError:
        code = Code.UNKNOWN
    message = unpacked(trailers.get("grpc-message", b"").decode("latin-1"))
    pushback = trailers.get("grpc-retry-pushback-ms")
    told = None if pushback is None else pushback.decode("latin-1")
    raise RpcError(code, message, metadata_of(trailers.items()), pushback=told)


def _encoding(response: Any) -> str:
    return str((response.headers.get("grpc-encoding") or b"identity").decode("latin-1"))


def _broken(error: Exception) -> RpcError:
    """Return what a broken stream or connection means to a call."""
    if isinstance(error, StreamResetError):
        reason = int(error.error_code)
        return RpcError(_CODES.get(reason, Code.INTERNAL), f"the stream was reset ({reason:#x})", unprocessed=reason == _REFUSED)
    return RpcError(Code.UNAVAILABLE, words_of(error), unprocessed=isinstance(error, GoAwayError))
