"""A GET over HTTP/1.1, its body read as it comes: what an API server's watch is."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from httpunk import H1Connection, Request, Response
from httpunk.asyncio import H1ClientProtocol
from httpunk.exceptions import HTTPunkError

from stillhouse.edge.wire.ends import NeverHalfOpen
from stillhouse.edge.wire.links import words_of

__all__ = ["Answer", "Broken", "asked"]

_CONNECT_S = 5.0
_ANSWER_S = 30.0


class _Protocol(NeverHalfOpen, H1ClientProtocol):
    pass


class Broken(Exception):
    """The server cannot be reached, or the connection broke."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body has not been read."""

    status: int
    response: Response

    async def chunks(self, silent_s: float) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            Broken: it broke off, or there was nothing for `silent_s` seconds.
        """
        body = self.response.aiter_bytes()
        try:
            while True:
                try:
                    async with asyncio.timeout(silent_s):
                        chunk = await anext(body)
                except StopAsyncIteration:
                    return
                except (OSError, TimeoutError, HTTPunkError) as error:
                    raise Broken(words_of(error)) from error
                yield chunk
        finally:
            with contextlib.suppress(OSError, HTTPunkError):
                await body.aclose()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def asked(
    host: str, port: int, target: str, headers: Mapping[str, str], tls: ssl.SSLContext | None
) -> AsyncIterator[Answer]:
    """Ask over a connection of its own, which ends with the context.

    Raises:
        Broken: there is no answer.
    """
    protocol: _Protocol | None = None
    loop = asyncio.get_running_loop()
    try:
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, protocol = await loop.create_connection(
                    lambda: _Protocol(authority=f"{host}:{port}"),
                    host,
                    port,
                    ssl=tls,
                    server_hostname=host if tls else None,
                )
                connection = await protocol.ready()
            assert isinstance(connection, H1Connection)
            async with asyncio.timeout(_ANSWER_S):
                response = await connection.send_request(Request("GET", target, headers=dict(headers)))
        except (OSError, TimeoutError, HTTPunkError) as error:
            raise Broken(words_of(error)) from error
        yield Answer(response.status, response)
    finally:
        if protocol is not None:
            with contextlib.suppress(OSError, HTTPunkError):
                await protocol.aclose()
