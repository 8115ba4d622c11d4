"""Asks the worker of a build's pod how far it is. What it answers is a pod's word: bounded, and believed in its types alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

__all__ = ["Progress", "ProgressReader"]

_TIMEOUT_S = 2.0
_AT_ONCE = 32
_LARGEST = 16 << 10


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage is: `step` is number `position` of `total` (0: beside the steps), `figures` its count in words."""

    step: str
    position: int
    total: int
    figures: str

    def text(self) -> str:
        """Return it in words, at most 200 characters."""
        place = f" ({self.position}/{self.total})" if self.total else ""
        return (f"{self.step}{place}" + (f": {self.figures}" if self.figures else ""))[:200]


class ProgressReader:
    """GET /progress of pods, many at once. Use it as an async context manager."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        # Straight to the pods: no proxy of the environment, no redirect, no cookie.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def read(self, address: str) -> Progress | None:
        """Return what the worker at an IP address says; None where it does not answer, or says what nobody understands."""
        host = f"[{address}]" if ":" in address else address
        async with self._slots:
            try:
                async with self._session.get(f"http://{host}:{self._port}/progress", allow_redirects=False) as answer:
                    if answer.status != 200:
                        return None
                    content = b""
                    while more := await answer.content.read(_LARGEST):
                        content += more
                        if len(content) > _LARGEST:
                            return None
                return _read(json.loads(content))
            except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
                return None


def _read(data: Any) -> Progress | None:
    if not isinstance(data, dict):
        return None
    step, position, total, figures = (data.get(name) for name in ("step", "position", "total", "figures"))
    if not isinstance(step, str) or not isinstance(figures, str) or not step:
        return None
    if not isinstance(position, int) or not isinstance(total, int):
        return None
    return Progress(_plain(step), position, total, _plain(figures))


def _plain(text: str) -> str:
    """Return a line without what a terminal would act on."""
    return "".join(each if each.isprintable() else " " for each in text[:200])
