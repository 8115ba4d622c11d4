"""A proxy between the operator and a real API server that makes, by a script, what networks, servers and clusters do wrong.

Requests come in plain HTTP with the operator's own token and go on over TLS. What is written is counted by namespace, so that
many models with a fault each can live at once; Leases are left alone, since when they are written is a matter of time.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from tests.support.kube.control_plane import ControlPlane

__all__ = ["WATCH_FAULTS", "WRITE_FAULTS", "FaultProxy", "WatchFaults", "WriteFault", "running_proxy"]

REFUSALS = {
    "401": "Unauthorized",
    "404": "NotFound",
    "409": "Conflict",
    "410": "Expired",
    "429": "TooManyRequests",
    "500": "InternalError",
    "503": "ServiceUnavailable",
}
WRITE_FAULTS = ("kill before", "kill after", "reset before", "reset after", "409", "410", "429", "500", "503")
"""`before`: the server never saw the write; `after`: it was done, and the answer is lost."""
WATCH_FAULTS = (
    "drop", "repeat", "hold", "silent", "reset", "ERROR 410", "ERROR 500",
    "watch 401", "watch 404", "watch 410", "watch 429", "watch 500", "watch 503", "list 410", "list 500",
)  # fmt: skip
"""What happens to a line of a watch; `watch`, `list`: to the request for one. There is also `garble`, which none survives."""
_SECONDS = aiohttp.ClientTimeout(total=None, sock_connect=10)
_PASSED = ("Authorization", "Content-Type", "Accept", "User-Agent")


@dataclass(frozen=True, slots=True)
class WriteFault:
    """`kind` of `WRITE_FAULTS` at the write of that number (1 is the first) in a namespace."""

    kind: str
    number: int


@dataclass
class WatchFaults:
    """Each line of a watch, each new watch and each list meets one of `kinds` by that chance, which is the seed's."""

    kinds: tuple[str, ...]
    chance: float
    seed: int
    hold_s: float = 1.5
    made: Counter[str] = field(default_factory=Counter)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def strike(self, where: str) -> str:
        """Return what happens now to a `line`, or to the request for a `watch` or a `list`; empty: nothing."""
        kinds = [kind for kind in self.kinds if (kind.split()[0] if kind[:5] in ("watch", "list ") else "line") == where]
        if not kinds or self._random.random() >= self.chance:
            return ""
        # Of those that were made least: else it is a matter of luck, and of time, whether each comes up.
        fewest = min(self.made[kind] for kind in kinds)
        kind = self._random.choice([kind for kind in kinds if self.made[kind] == fewest])
        self.made[kind] += 1
        return kind


class FaultProxy:
    """`faults`: by namespace, one fault of a write; `watch`: what watches suffer; `kill` ends the operator at once.

    `writes` counts what was asked by namespace, `created` what the server made: by namespace, plural and name.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self.faults: dict[str, WriteFault] = {}
        self.watch: WatchFaults | None = None
        self.kill: Callable[[], None] = lambda: None
        self.writes: Counter[str] = Counter()
        self.created: Counter[tuple[str, str, str]] = Counter()
        self.met: set[str] = set()
        self.url = ""
        self._plane = plane
        self._session: aiohttp.ClientSession | None = None

    def kubeconfig(self) -> str:
        """Return the plane's kubeconfig with this proxy as the server."""
        config = yaml.safe_load(self._plane.kubeconfig())
        config["clusters"][0]["cluster"] = {"server": self.url}
        return yaml.safe_dump(config)

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        """Listen until `stop`; `url` is set when `started` is."""
        context = ssl.create_default_context(cafile=str(self._plane.ca_file))
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=_SECONDS, read_bufsize=1 << 20) as self._session:
            app = web.Application(client_max_size=1 << 24)
            app.router.add_route("*", "/{path:.*}", self._pass)
            # A watch that nobody reads any more ends here too.
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            await stop.wait()
            await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        reads = "watch" if "watch" in request.query else "list" if "limit" in request.query else ""
        struck = self.watch.strike(reads) if self.watch and reads else ""
        if struck:
            return _refusal(struck.split()[1])
        if reads == "watch":
            return await self._watch(request)
        fault = self._due(request)
        if fault is None:
            return await self._forward(request, body)
        if fault in REFUSALS:
            return _refusal(fault)
        what, _, when = fault.partition(" ")
        if when == "after":
            await self._forward(request, body)
        if what == "kill":
            self.kill()
        return _cut(request)

    def _due(self, request: web.Request) -> str | None:
        """Count a write; return what is to happen to it."""
        namespace, plural = _place(request.path)
        if request.method == "GET" or not namespace or plural == "leases":
            return None
        self.writes[namespace] += 1
        fault = self.faults.get(namespace)
        if fault is None or fault.number != self.writes[namespace]:
            return None
        self.met.add(namespace)
        return fault.kind

    def _ask(self, request: web.Request, body: bytes | None) -> Any:
        assert self._session is not None
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        return self._session.request(request.method, self._plane.url + request.path_qs, headers=headers, data=body)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        # To its end, whether or not whoever asked still waits: what the server makes is counted.
        return await asyncio.shield(self._exchange(request, body))

    async def _exchange(self, request: web.Request, body: bytes) -> web.Response:
        async with self._ask(request, body or None) as answer:
            content = await answer.read()
            if request.method == "POST" and answer.status == 201:
                self.created[(*_place(request.path), json.loads(content)["metadata"]["name"])] += 1
            kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return web.Response(status=answer.status, body=content, headers=kept)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        async with self._ask(request, None) as answer:
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            async for line in _lines(answer.content):
                for told in await self._told(line, request):
                    await response.write(told)
            return response

    async def _told(self, line: bytes, request: web.Request) -> list[bytes]:
        """Return what of a line is told: itself as a rule."""
        faults = self.watch
        struck = "" if faults is None or b'"type":"BOOKMARK"' in line[:40] else faults.strike("line")
        if faults is None or not struck:
            return [line]
        if struck == "drop":
            return []
        if struck == "repeat":
            return [line, line]
        if struck == "garble":
            return [b"<html>\n"]
        if struck == "hold":  # and all that follows on this watch: what is read meanwhile is stale
            await asyncio.sleep(faults.hold_s)
            return [line]
        if struck.startswith("ERROR "):
            told = {"type": "ERROR", "object": _status(struck.split()[1])}
            return [json.dumps(told, separators=(",", ":")).encode() + b"\n"]
        if struck == "silent":
            await asyncio.Event().wait()  # until whoever watches gives up
        _cut(request)
        raise asyncio.CancelledError  # there is nobody to answer


def _place(path: str) -> tuple[str, str]:
    """Return namespace and plural of a path; both empty where it is not in a namespace."""
    parts = path.split("/")
    at = parts.index("namespaces") if "namespaces" in parts else len(parts)
    return (parts[at + 1], parts[at + 2]) if len(parts) > at + 2 else ("", "")


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for data in content.iter_any():
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line + b"\n"


def _status(code: str) -> dict[str, Any]:
    told = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "injected"}
    return {**told, "code": int(code), "reason": REFUSALS[code]}


def _refusal(code: str) -> web.Response:
    headers = {"Retry-After": "1"} if code == "429" else {}
    return web.json_response(_status(code), status=int(code), headers=headers)


def _cut(request: web.Request) -> web.Response:
    """Reset the connection; what is returned reaches nobody."""
    if request.transport is not None:
        line: socket.socket = request.transport.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)


@contextmanager
def running_proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    """Run a proxy in a thread of its own."""
    proxy, started = FaultProxy(plane), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(started, stop),), name="fault-proxy")
    thread.start()
    try:
        assert started.wait(30), "the proxy does not listen"
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
