"""The operator's own endpoint: `/healthz` (the loop lives), `/readyz` (the cluster has been listed), `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

__all__ = ["serve"]


async def serve(
    host: str, port: int, registry: CollectorRegistry, *, alive: Callable[[], str], ready: Callable[[], bool]
) -> web.AppRunner:
    """Listen; the runner's `cleanup` ends it. `alive` returns what is wrong, empty where nothing is."""

    async def healthz(_: web.Request) -> web.Response:
        wrong = alive()
        return web.Response(status=500 if wrong else 200, text=wrong or "ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=200 if ready() else 503, text="ok" if ready() else "the cluster has not been listed yet")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
