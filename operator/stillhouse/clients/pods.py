"""Asks pods for a JSON document, many at once. What they answer is a pod's word: bounded in size and time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import aiohttp

__all__ = ["PodReader"]

T = TypeVar("T")
_TIMEOUT_S = 2.0
_AT_ONCE = 32


class PodReader(Generic[T]):
    """GET of one path of pods. Use it as an async context manager.

    `largest`: bytes of an answer at most. `understand` returns what a document says, None where nobody understands it.
    """

    def __init__(self, port: int, path: str, largest: int, understand: Callable[[Any], T | None]) -> None:
        self._port, self._path, self._largest, self._understand = port, path, largest, understand
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        # Straight to the pods: no proxy of the environment, no redirect, no cookie.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def read(self, address: str) -> T | None:
        """Return what the pod at an IP address says; None where it does not answer, or says what nobody understands."""
        host = f"[{address}]" if ":" in address else address
        async with self._slots:
            try:
                async with self._session.get(f"http://{host}:{self._port}{self._path}", allow_redirects=False) as answer:
                    if answer.status != 200:
                        return None
                    content = b""
                    while more := await answer.content.read(self._largest):
                        content += more
                        if len(content) > self._largest:
                            return None
                return self._understand(json.loads(content))
            except (TimeoutError, aiohttp.ClientError, OSError, ValueError, RecursionError):
                return None
