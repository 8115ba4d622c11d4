"""Connections to one address: made when they are needed, left when the server asks, ended when nothing is under way in them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from types import TracebackType
from typing import Any

from httpunk import H2Connection
from httpunk.asyncio import H2ClientProtocol
from httpunk.exceptions import HTTPunkError

from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.ends import NeverHalfOpen
from stillhouse.edge.wire.lighter import LighterBackend

__all__ = ["Link", "Links", "words_of"]

_FIRST_S, _GROWS, _LONGEST_S, _JITTER = 0.2, 1.6, 20.0, 0.2
"""Back-off between attempts to connect (gRPC's connection-backoff.md, begun earlier and ended sooner: in front of a gateway
somebody waits)."""
_SILENT_MS = 20_000
"""A connection whose bytes nobody acknowledges for so long is dead (TCP_USER_TIMEOUT): a black hole sends no reset."""


_BACKEND = LighterBackend()


class _Protocol(NeverHalfOpen, H2ClientProtocol):
    def __init__(self, **settings: str) -> None:
        super().__init__(**settings)
        self._backend = _BACKEND


class Link:
    """One connection, and how many calls are under way in it: `with link:` is one."""

    def __init__(self, protocol: H2ClientProtocol, connection: H2Connection) -> None:
        self.connection = connection
        self._protocol = protocol
        self._calls = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """Return whether it takes calls: the server has not asked to leave, and it is not broken."""
        return not self.connection.closed

    def __enter__(self) -> Link:
        self._calls += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._calls -= 1
        if self._retired and not self._calls:
            self._end()

    def retire(self) -> None:
        """End it as soon as nothing is under way in it."""
        self._retired = True
        if not self._calls:
            self._end()

    def _end(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self.close())

    async def close(self) -> None:
        """End it now."""
        with contextlib.suppress(HTTPunkError, OSError):
            await self._protocol.aclose()


class Links:
    """The connection to one address. `tls` None speaks plain HTTP/2."""

    def __init__(self, address: str, *, tls: ssl.SSLContext | None, authority: str, server_name: str, connect_s: float) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._tls, self._authority, self._server_name = tls, authority or address, server_name or self._host
        self._connect_s = connect_s
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._not_before, self._why = 0.0, ""
        self.failures = 0
        """Attempts to connect that failed, since the last that did not."""

    async def link(self) -> Link:
        """Return a connection that takes calls.

        Raises:
            RpcError: UNAVAILABLE, at once while the last attempt to connect was so short a time ago.
        """
        link = self._link
        if link is not None and link.usable:
            return link
        if self._connecting is None:
            wait = self._not_before - asyncio.get_running_loop().time()
            if wait > 0:
                raise self._unreachable(f"; tried again in {wait:.1f} s")
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        # One attempt for all that wait, and none of them ends it for the others.
        return await asyncio.shield(self._connecting)

    def leave(self) -> None:
        """End the connection as soon as nothing is under way in it."""
        if self._link is not None:
            self._link.retire()
            self._link = None

    async def close(self) -> None:
        """End the connection now."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            await self._link.close()

    def _unreachable(self, more: str = "") -> RpcError:
        # The reason too may name addresses: "Connect call failed ('10.0.0.7', 443)".
        detail = f"{self.address}: {self._why}{more}"
        return RpcError(Code.UNAVAILABLE, f"the server cannot be reached{more}", unprocessed=True, detail=detail)

    async def _connect(self) -> Link:
        loop = asyncio.get_running_loop()
        protocol: H2ClientProtocol | None = None
        try:
            async with asyncio.timeout(self._connect_s):
                _, protocol = await loop.create_connection(
                    lambda: _Protocol(authority=self._authority, scheme="https" if self._tls else "http"),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._server_name if self._tls else None,
                )
                _quick(protocol)
                connection = await protocol.ready()
        except (OSError, TimeoutError, HTTPunkError) as error:
            self.failures += 1
            pause = min(_LONGEST_S, _FIRST_S * _GROWS ** (self.failures - 1))
            self._not_before = loop.time() + pause * random.uniform(1 - _JITTER, 1 + _JITTER)
            self._why = words_of(error)
            if protocol is not None:
                with contextlib.suppress(HTTPunkError, OSError):
                    await protocol.aclose()
            raise self._unreachable() from error
        finally:
            self._connecting = None
        assert isinstance(connection, H2Connection)
        if self._link is not None:
            self._link.retire()
        self.failures, self._link = 0, Link(protocol, connection)
        return self._link


def words_of(error: Exception) -> str:
    """Return what a broken connection tells."""
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def _quick(protocol: H2ClientProtocol) -> None:
    transport: Any = protocol._transport
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
