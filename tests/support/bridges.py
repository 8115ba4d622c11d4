"""A bridge of MQTT in this process, before a backend's model `echo`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.wire import until

from stillhouse.edge.mqtt.bridge import Bridge, BridgeSettings
from stillhouse.edge.mqtt.broker import Broker
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.wire.client import Channel

__all__ = ["bridging"]


@contextlib.asynccontextmanager
async def bridging(where: Broker, address: str, **settings: Any) -> AsyncIterator[Bridge]:
    """Run one, once it bridges (or has ended)."""
    pool = Pool(Channel)
    pool.update({address: 1.0})
    made = Bridge(where, BridgeSettings(**{"name": "bridge-1", **settings}), {"echo": pool})
    stop = asyncio.Event()
    running = asyncio.ensure_future(made.run(stop))
    try:
        await until(lambda: made.ready or running.done())
        yield made
    finally:
        stop.set()
        await running
