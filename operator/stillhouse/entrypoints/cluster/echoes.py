"""A watch's answer without the echoes of our own writes.

While models are made, most events tell what the answer to a write has told already. To kopf each of them is a task, a
queue and half a millisecond; here it is a search in the line. What cannot be told for an echo goes on to kopf, and the cache
leaves it alone: so this saves work and decides nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from stillhouse.entrypoints.cluster.patience import PatientAnswer, mended, pieces

__all__ = ["HOLD_S", "Lines", "without_echoes"]

HOLD_S = 0.05
"""How long a watch's lines wait while we write: an event is often there before the answer to the write that it tells of."""

_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')
"""The first of a line is the object's own: no other comes before its metadata, and in a text the quotes would be escaped."""
_PLAIN = (b'{"type":"ADDED"', b'{"type":"MODIFIED"')


def without_echoes(known: Callable[[str, int], bool], writing: Callable[[], bool]) -> type[aiohttp.ClientResponse]:
    """Return a class of answers for an aiohttp session.

    `known` says whether an object of a kind (its plural) and version is one that we wrote; `writing` whether we write now.
    """

    class Answer(PatientAnswer):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            await super().start(connection)
            if self.status == 200 and "watch" in self.url.query:
                plural = self.url.path.rpartition("/")[2]
                self.content = Lines(self.content, lambda version: known(plural, version), writing)  # type: ignore[assignment]
            return self

    return Answer


class Lines:
    """An answer's content, of which `iter_chunked` leaves lines out."""

    def __init__(self, inner: aiohttp.StreamReader, known: Callable[[int], bool], writing: Callable[[], bool]) -> None:
        self._inner = inner
        self._known = known
        self._writing = writing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield whole lines, several at once, and at the end what a cut connection leaves of one."""
        rest = b""
        async for data in pieces(self._inner, size):
            if self._writing():
                await asyncio.sleep(HOLD_S)
            *lines, rest = (rest + data).split(b"\n")
            kept = [mended(line) for line in lines if not self._echo(line)]
            if kept:
                yield b"\n".join([*kept, b""])
        if rest:
            yield rest

    def _echo(self, line: bytes) -> bool:
        if not line.startswith(_PLAIN):
            return False
        found = _VERSION.search(line)
        return found is not None and self._known(int(found[1]))
