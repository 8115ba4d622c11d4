"""Servers that are asked: beside the gateway, behind a Service, elsewhere, behind a broker."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from stillhouse.edge.assembly.parts import Parts
from stillhouse.edge.certificates import Shown, towards
from stillhouse.edge.config import Config
from stillhouse.edge.probing import Probe
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.sections import places
from stillhouse.edge.watching import Api, Watcher
from stillhouse.edge.wire.client import Channel

__all__ = ["elsewhere", "own", "probe"]


async def own(config: Config, largest: int, parts: Parts) -> Pool:
    """Return the servers of the edge's model, which is not in this process. `largest`: bytes of a message, here as below."""
    assert isinstance(config.edge, places.Backends | places.Slices)
    return await _pool(config.edge, None, largest, parts)


async def elsewhere(given: places.LargerBackends | places.LargerSlices | places.LargerMqtt, largest: int, parts: Parts) -> Pool:
    """Return the servers of a model that is elsewhere."""
    if isinstance(given, places.LargerMqtt):
        pool = parts.brokers.pool_over(given, largest)
        parts.closing.append(pool.close)
        return pool
    return await _pool(given, towards(given.authority, None) if given.tls else None, largest, parts)


def probe(
    given: places.LargerBackends | places.LargerSlices | places.LargerMqtt,
    pool: Pool,
    parts: Parts,
    found: Callable[[set[str]], None] = lambda outputs: None,
) -> None:
    """Look for a model where it is said to be; `found` is told of its outputs."""
    if isinstance(given, places.LargerMqtt):
        return  # inferences alone travel there
    asker = Probe(given.model, pool, found)
    parts.probes.append(asker)
    parts.tasks.append(asker.run)


async def _pool(
    given: places.Backends | places.Slices | places.LargerBackends | places.LargerSlices,
    tls: ssl.SSLContext | None,
    largest: int,
    parts: Parts,
) -> Pool:
    far = given if isinstance(given, places.LargerBackends | places.LargerSlices) else None
    token = Shown(far.token) if far is not None and far.token is not None else None
    name = far.serverName if far is not None else ""
    pool = Pool(lambda address: Channel(address, tls=tls, server_name=name, largest=largest, token=token))
    if isinstance(given, places.Backends | places.LargerBackends):
        pool.update(given.backends)
    else:
        watcher = Watcher(Api.of_pod(), given.namespace, given.service, given.port, pool.update)
        await watcher.begin()
        parts.tasks.append(watcher.run)
    parts.closing.append(pool.close)
    return pool
