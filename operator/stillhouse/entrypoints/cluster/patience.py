"""Answers of an API server as kopf survives them.

kopf ends for good where a list or a watch is answered with 410, 404 or any other 4xx that it does not know, and where a watch
tells an error that is not 410: a page's token that ran out, a definition that was removed, an etcd that changes its leader. And
as it ends it cancels every task of the loop. What it does survive is an event that says that the version is too old (it lists
anew) and an answer that breaks off (likewise). So it is told these.

After a 401 it closes the connections of all watches for a new login, and that can be its end too. Here each request has the
newest token (`newest_token`), and after a 401 it asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import chain, repeat
from typing import Any

import aiohttp
from kubernetes.aio import client

__all__ = ["AGAIN_S", "Backoffs", "PatientAnswer", "mended", "newest_token", "pieces"]

AGAIN_S = 1.0
"""Between the end of a watch and the list that follows: also of one that is refused for ever."""

_TOO_OLD = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}'
_KNOWN = (403, 429)
"""kopf asks again."""


class Backoffs:
    """Seconds between two attempts at a request: for ever, where kopf's own end after a minute, and with them kopf."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0), repeat(30.0))


class PatientAnswer(aiohttp.ClientResponse):
    """An answer to kopf. Where it would be its end, a watch says that its version is too old, and a list breaks off."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the head.

        Raises:
            aiohttp.ClientPayloadError: a list was refused.
        """
        await super().start(connection)
        if self.status == 401:
            self.status = 503
        if not 400 <= self.status < 500 or self.status in _KNOWN:
            return self
        if "watch" in self.url.query:
            self.status = 200
            said = aiohttp.StreamReader(self.content._protocol, 2**16, loop=asyncio.get_running_loop())
            said.feed_data(_TOO_OLD + b"\n")
            said.feed_eof()
            self.content = said
        elif "limit" in self.url.query:
            raise aiohttp.ClientPayloadError(f"{self.status} to a list: {self.url.path}")
        return self


def newest_token(configuration: client.Configuration) -> aiohttp.ClientMiddlewareType:
    """Return what gives each request the token of that moment: a pod's is another every hour."""

    async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            request.headers["Authorization"] = token
        return await handler(request)

    return authorize


async def pieces(content: aiohttp.StreamReader, size: int) -> AsyncIterator[bytes]:
    """Yield what comes of an answer.

    Raises:
        aiohttp.ClientPayloadError: it broke off, also where aiohttp has another word for it.
    """
    try:
        async for data in content.iter_chunked(size):
            yield data
    except RuntimeError as error:  # "Connection closed.", of one that was closed between two reads
        raise aiohttp.ClientPayloadError(str(error)) from error


def mended(line: bytes) -> bytes:
    """Return a line of a watch; an error, whichever it is, as one that has kopf list anew."""
    return _TOO_OLD if line.startswith(b'{"type":"ERROR"') else line
