"""Answers of an API server as kopf survives them.

kopf ends for good where a list or a watch is answered with 410, 404 or any other 4xx that it does not know, and where a watch
tells an error that is not 410: a page's token that ran out, a definition that was removed, an etcd that changes its leader. And
as it ends it cancels every task of the loop. What it does survive is an event that says that the version is too old (it lists
anew) and an answer that breaks off (likewise). So it is told these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import aiohttp

__all__ = ["AGAIN_S", "Backoffs", "PatientAnswer", "mended"]

AGAIN_S = 1.0
"""Between the end of a watch and the list that follows: also of one that is refused for ever."""

_TOO_OLD = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}'
_KNOWN = (401, 403, 429)
"""kopf logs in anew, or asks again."""


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


def mended(line: bytes) -> bytes:
    """Return a line of a watch; an error, whichever it is, as one that has kopf list anew."""
    return _TOO_OLD if line.startswith(b'{"type":"ERROR"') else line
