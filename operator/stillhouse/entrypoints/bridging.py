"""A bridge with the servers that it asks, and the small door by which a kubelet and Prometheus look at it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stillhouse.edge.certificates import Shown
from stillhouse.edge.mqtt.bridge import Bridge, BridgeSettings
from stillhouse.edge.mqtt.broker import Broker
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.watching import Api, Watcher
from stillhouse.edge.wire.client import Channel
from stillhouse.entrypoints.answering import Answering
from stillhouse.errors import EnvironmentProblem, UsageError

__all__ = ["Behind", "Service", "bridging", "services_of"]

_SERVICE = re.compile(r"([a-z0-9-]{1,63})/([a-z0-9-]{1,63}):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Service:
    """A Service of the cluster, whose EndpointSlices are watched."""

    namespace: str
    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Behind:
    """Who answers, by model: weights of addresses, or a Service. `tls`, `server_name`, `token`: with which all are asked."""

    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    token: Path | None = None


def services_of(given: tuple[str, ...]) -> dict[str, Service]:
    """Return Services by model, from NAME=NAMESPACE/SERVICE:PORT. Raises UsageError where something names none."""
    found = {}
    for each in given:
        name, equals, rest = each.partition("=")
        matched = _SERVICE.fullmatch(rest)
        if not equals or not name or not matched or not 0 < int(matched[3]) <= 65535:
            raise UsageError("this names no Service", field="--slices", found=each, allowed="NAME=NAMESPACE/SERVICE:PORT")
        found[name] = Service(matched[1], matched[2], int(matched[3]))
    return found


async def bridging(
    where: Broker,
    settings: BridgeSettings,
    behind: Behind,
    stop: asyncio.Event,
    told: Callable[[Bridge], None],
    *,
    door: tuple[str, int] | None = None,
    api: Api | None = None,
) -> None:
    """Bridge until `stop`. `told` is called once the first attempt to connect has ended; `door`: where the bridge is looked at.

    `api`: the API server that tells of Services; None: the one of this pod's cluster.

    Raises:
        UsageError: the broker refuses us, or the token cannot be read.
        EnvironmentProblem: there is no API server, or the door is taken.
    """
    token = Shown(behind.token) if behind.token is not None else None

    def channel(address: str) -> Channel:
        return Channel(address, tls=behind.tls, server_name=behind.server_name, largest=settings.largest, token=token)

    pools = {model: Pool(channel) for model in (*behind.models, *behind.services)}
    for model, weights in behind.models.items():
        pools[model].update(weights)
    watching = []
    for model, each in behind.services.items():
        watcher = Watcher(api or Api.of_pod(), each.namespace, each.name, each.port, pools[model].update)
        await watcher.begin()
        watching.append(asyncio.ensure_future(watcher.run()))
    bridge, listening = Bridge(where, settings, pools), asyncio.Event()
    looked = _door(door, bridge) if door is not None else None
    running = asyncio.ensure_future(bridge.run(stop, listening))
    first = asyncio.ensure_future(listening.wait())
    try:
        await asyncio.wait({running, first}, return_when=asyncio.FIRST_COMPLETED)
        if listening.is_set():
            told(bridge)
        await running
    finally:
        for task in (first, *watching):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if looked is not None:
            looked.close()


def _door(at: tuple[str, int], bridge: Bridge) -> Answering:
    def ready() -> tuple[int, bytes]:
        return (200, b"ok") if bridge.ready else (503, bridge.words.encode())

    def metrics() -> tuple[int, bytes]:
        lines = ["# HELP stillhouse_bridge_answers_total Requests by gRPC's code of their answer, or refused.",
                 "# TYPE stillhouse_bridge_answers_total counter"]  # fmt: skip
        lines += [f'stillhouse_bridge_answers_total{{code="{code}"}} {count}' for code, count in sorted(bridge.counts.items())]
        lines += ["# HELP stillhouse_bridge_connected Whether the broker has this bridge's subscriptions.",
                  "# TYPE stillhouse_bridge_connected gauge", f"stillhouse_bridge_connected {int(bridge.ready)}"]  # fmt: skip
        return 200, ("\n".join(lines) + "\n").encode()

    try:
        return Answering(*at, {"/healthz": lambda: (200, b"ok"), "/readyz": ready, "/metrics": metrics}, "door")
    except OSError as error:
        raise EnvironmentProblem(
            "the bridge cannot be looked at", field="--metrics", found=error.strerror or str(error), fix="name another port"
        ) from error
