"""The gateway's process: the protocol at the front, pools of backends behind, until it is asked to end."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stillhouse.edge.assembly.gateway import assemble
from stillhouse.edge.assembly.parts import Parts
from stillhouse.edge.away.overload import Admission, FixedLimit, GradientLimit
from stillhouse.edge.certificates import Front
from stillhouse.edge.config import Config
from stillhouse.edge.door import Door
from stillhouse.edge.guard import limits as guard
from stillhouse.edge.guard.clients import Clients
from stillhouse.edge.guard.limits import Limiter
from stillhouse.edge.metrics import Counts, Exposition
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.screening.building import Guarding, audit_of, guarding, screen_of
from stillhouse.edge.screening.settings import AuditSettings, ScreenSettings
from stillhouse.edge.service import Service
from stillhouse.edge.tracing.spans import Telemetry, Tracing
from stillhouse.edge.wire.call import Limits
from stillhouse.edge.wire.client import Channel
from stillhouse.edge.wire.server import Http, Server

__all__ = ["DoorTaken", "Options", "run"]

_RENEW_S = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a gateway is started with.

    `models`: model → address → weight. `front`: TLS at the front, `backend_tls` towards backends; None: none. `grace_s`: how long
    calls that are under way at the end may take. `in_flight`: inferences at once; 0: as many as their latency says.
    `clients`: who may ask; `each`: how much each of them. `metrics`: where /metrics, /healthz and /readyz are answered.
    `config`: one model with all that belongs to it, in the place of `models`.
    `rest`: where the protocol's REST twin is spoken; the address of gRPC itself: on the same port. `telemetry`: where spans go.
    `screen`: what requests may hold; `audit`: where they are recorded. A file has its own of both.
    """

    models: Mapping[str, Mapping[str, float]]
    version: str
    host: str = "127.0.0.1"
    port: int = 8001
    front: Front | None = None
    backend_tls: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)
    grace_s: float = 30.0
    in_flight: int = 512
    clients: Clients = field(default_factory=lambda: Clients(None))
    each: guard.Limits | None = None
    metrics: tuple[str, int] | None = None
    config: Config | None = None
    rest: tuple[str, int] | None = None
    telemetry: Telemetry | None = None
    screen: ScreenSettings | None = None
    audit: AuditSettings | None = None


class DoorTaken(OSError):
    """`door` (grpc, rest, metrics) cannot listen."""

    def __init__(self, door: str, address: str, error: OSError) -> None:
        super().__init__(error.errno, f"{address}: {os.strerror(error.errno) if error.errno else error}")
        self.door = door


async def run(options: Options, stop: asyncio.Event, listening: asyncio.Future[dict[str, str]] | None = None) -> None:
    """Serve until `stop` is set; then let what is under way end. `listening` receives HOST:PORT of each door.

    Raises:
        DoorTaken: a port is taken.
        StillhouseError: a part of the configuration cannot be built.
    """
    admission = Admission(FixedLimit(options.in_flight) if options.in_flight else GradientLimit())
    door = Door(options.clients, Limiter(options.each) if options.each is not None else None, admission)
    parts = await _parts(options, door)
    screening = _guarding(options, parts)
    counts = Counts()
    tracing = Tracing(options.telemetry) if options.telemetry is not None else None
    service = Service(parts.pools, options.version, door, counts, parts.answering, tracing, screening, options.limits.message)
    unary, streams = service.methods()
    tls = options.front.context if options.front else None
    rest: Http | None = None
    if options.rest is not None:
        from stillhouse.edge.rest.front import Rest  # it brings numpy

        rest = Rest(unary, options.limits, service.known).answer
    together = options.rest == (options.host, options.port) and options.port != 0
    server = Server(unary, streams, http=rest if together else None, limits=options.limits, known=door.client)
    port = await _listen("grpc", server, options.host, options.port, tls)
    _log.info("listening on %s:%d", options.host, port)
    doors = {"grpc": _named(options.host, port)}
    others: list[Server] = []
    if options.rest is not None:
        if not together:
            others.append(Server({}, http=rest, limits=options.limits))
            port = await _listen("rest", others[0], *options.rest, tls)
        doors["rest"] = _named(options.rest[0], port)
        _log.info("REST on %s", doors["rest"])
    told: Server | None = None
    if options.metrics is not None:

        def missing() -> list[str]:
            return [name for name, model in parts.answering.items() if not model.ready]

        exposition = Exposition(
            counts,
            parts.pools,
            admission,
            time.monotonic,
            more=parts.metrics,
            status=parts.status,
            missing=missing,
            guarding=screening,
            troubles=lambda: [each.trouble for each in parts.probes if each.trouble],
        )
        told = Server({}, http=exposition.answer)
        doors["metrics"] = _named(options.metrics[0], await _listen("metrics", told, *options.metrics))
    if listening is not None:
        listening.set_result(doors)
    beside = [asyncio.ensure_future(each()) for each in parts.tasks]
    if options.front is not None:
        beside.append(asyncio.ensure_future(_renewing(options.front)))
    for each in beside:
        each.add_done_callback(_ended)
    try:
        await stop.wait()
    finally:
        await asyncio.gather(*(each.drain(options.grace_s) for each in (server, *others)))
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        if told is not None:
            await told.drain(1.0)
        for close in parts.closing:
            await close()
        if tracing is not None:
            await tracing.close()
        _log.info("ended")


async def _listen(door: str, server: Server, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
    try:
        return await server.listen(host, port, tls)
    except OSError as error:
        raise DoorTaken(door, _named(host, port), error) from error


def _guarding(options: Options, parts: Parts) -> Guarding | None:
    screen, audit, config = options.screen, options.audit, options.config
    if config is not None and config.guard is not None:
        screen = replace(screen_of(config.guard), texts=parts.texts)
        if config.guard.audit is not None:
            audit = audit_of(config.guard.audit, config.name, config.edge.variant, config.edge.digest)
    found = guarding(screen, audit, parts.pools, parts.answering)
    if found is not None:
        parts.metrics.append(found.metrics)
        parts.tasks.append(found.run)
        parts.closing.append(found.close)  # last: the others may still end requests
    return found


async def _parts(options: Options, door: Door) -> Parts:
    largest = options.limits.message
    if options.config is not None:
        return await assemble(options.config, door.client, largest)
    parts = Parts()
    for model, addresses in options.models.items():
        pool = Pool(lambda address: Channel(address, tls=options.backend_tls, largest=largest))
        pool.update(addresses)
        parts.pools[model] = pool
        parts.closing.append(pool.close)
    return parts


def _named(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ended(task: asyncio.Future[None]) -> None:
    """Say when something that runs beside the requests ends by an error: nobody waits for it."""
    if not task.cancelled() and task.exception() is not None:
        _log.error("a part of the gateway ended", exc_info=task.exception())


async def _renewing(front: Front) -> None:
    while True:
        await asyncio.sleep(_RENEW_S)
        front.renew()
