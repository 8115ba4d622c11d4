"""The operator's own endpoint: `/healthz` (the loop lives), `/readyz` (the cluster has been listed), `/metrics`.

It answers from a thread of its own: a loop that is stuck could not say so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

__all__ = ["Endpoint", "serve"]

_COLLECT_S = 5.0


class Endpoint:
    """What listens; `port` is where."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="health")
        self._runner: web.AppRunner | None = None

    async def start(self, app: web.Application, host: str, port: int) -> None:
        """Listen. Raises `OSError` where the port is taken."""
        self._thread.start()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._listen(app, host, port), self._loop))

    async def _listen(self, app: web.Application, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = int(self._runner.addresses[0][1])

    async def cleanup(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)


async def serve(
    host: str, port: int, registry: CollectorRegistry, *, alive: Callable[[], str], ready: Callable[[], bool]
) -> Endpoint:
    """Listen; `cleanup` of what is returned ends it. `alive` returns what is wrong, empty where nothing is.

    `alive` and `ready` are called from another thread; the registry is read in the loop that calls this.

    Raises:
        OSError: the port is taken.
    """
    work = asyncio.get_running_loop()

    async def collect() -> bytes:
        return generate_latest(registry)

    async def healthz(_: web.Request) -> web.Response:
        wrong = alive()
        return web.Response(status=500 if wrong else 200, text=wrong or "ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=200 if ready() else 503, text="ok" if ready() else "the cluster has not been listed yet")

    async def metrics(_: web.Request) -> web.Response:
        found = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(collect(), work))
        try:
            text = await asyncio.wait_for(found, _COLLECT_S)
        except TimeoutError:
            return web.Response(status=503, text="the event loop does not answer")
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    endpoint = Endpoint()
    await endpoint.start(app, host, port)
    return endpoint
