"""One process of the metrics API: watches pods, scrapes them, answers, and keeps its certificate and its registration.

Each replica scrapes by itself and keeps nothing: what it needs is in the pods' counters, two of them sample the same sums and
say the same within a window's noise, and a new one knows as much after two scrapes. Sharing would need a leader, a wire between
them and a way to tell stale from fresh, to save one small request a second and pod.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from stillhouse.clients.kube.api import KubeApi, connect
from stillhouse.clients.kube.interface import Conflict, KubeError
from stillhouse.clients.kube.kinds import CONFIG_MAP
from stillhouse.entrypoints.cluster.ending import broken, ended_with, take_signals, take_signals_after
from stillhouse.entrypoints.cluster.watching import watch
from stillhouse.errors import StillhouseError
from stillhouse.scaling.access import Access
from stillhouse.scaling.external import Value, figures
from stillhouse.scaling.frontproxy import CONFIG_NAME, CONFIG_NAMESPACE, FrontProxy
from stillhouse.scaling.registration import Place, Registration, unregister
from stillhouse.scaling.scraper import Scraper
from stillhouse.scaling.server import MetricsApi
from stillhouse.scaling.targets import WATCHED, Targets
from stillhouse.scaling.tls import Tls
from stillhouse.scaling.wanted import Aim

__all__ = ["Options", "leave", "run"]

_LIST_S, _REGISTER_S, _TRUST_S, _AGAIN_S = 600.0, 10.0, 60.0, 1.0
"""The list is for what a watch may have missed, as the operator's; the watches tell all the rest."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a process is started with. `namespace` empty: models of the whole cluster; `pod_port` that of the pods' metrics.

    `register` False: the cluster's external metrics are left to others.
    """

    place: Place
    register: bool = True
    namespace: str = ""
    context: str = ""
    host: str = "0.0.0.0"  # noqa: S104 - in a pod of its own; the network policy says who may
    port: int = 8443
    plain_port: int = 8080
    pod_port: int = 8002
    aim: Aim = field(default_factory=Aim)


async def leave(place: Place, context: str) -> int:
    """Remove the APIService where it is ours."""
    async with await connect(context, connections=1) as kube:
        gone = await unregister(kube, place)
        _log.info("the APIService was removed" if gone else "no APIService is ours")
    return 0


async def run(options: Options) -> int:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    take_signals(stop)
    async with await connect(options.context) as kube:
        targets = Targets()
        async with Scraper(targets, port=options.pod_port) as scraper:
            process = _Process(options, kube, targets, scraper)
            return await process.run(stop)


class _Process:
    def __init__(self, options: Options, kube: KubeApi, targets: Targets, scraper: Scraper) -> None:
        self._options, self._kube, self._targets, self._scraper = options, kube, targets, scraper
        self._tls = Tls()
        self._registration = Registration(kube, options.place, register=options.register)
        self._listed = self._placed = False
        self._values: tuple[int, Mapping[str, list[Value]]] = (-1, {})
        registry = CollectorRegistry()
        self._api = MetricsApi(Access(kube), self.values, self.unready, registry)
        self._owned = Gauge("stillhouse_metrics_api_owned", "1 where external.metrics.k8s.io is ours.", registry=registry)
        for name, text, function in (
            ("stillhouse_scaling_models", "Models that may scale.", lambda: len(targets.by_model())),
            ("stillhouse_scaling_known", "Models of which a value is known.", lambda: len(scraper.signals())),
            ("stillhouse_scrape_rounds", "Rounds of scraping since the start.", lambda: scraper.rounds),
            ("stillhouse_scrape_failures", "Scrapes that failed since the start.", lambda: scraper.failures),
        ):
            Gauge(name, text, registry=registry).set_function(function)

    def values(self) -> Mapping[str, list[Value]]:
        """Return every value; they are worked out once a round and not for each question."""
        if self._values[0] != self._scraper.rounds:
            self._values = (self._scraper.rounds, figures(self._scraper.signals(), self._options.aim))
        return self._values[1]

    def unready(self) -> str:
        """Return what is missing."""
        if not self._listed:
            return "the cluster has not been listed yet"
        if not self._placed or not self._tls.ready:
            return "there is no certificate yet, or it is not known how the API server shows itself"
        return "" if self._scraper.rounds >= 2 else "the pods have not been asked twice yet"

    async def run(self, stop: asyncio.Event) -> int:
        options = self._options
        secure = web.AppRunner(self._api.secure(), access_log=None)
        plain = web.AppRunner(self._api.plain(), access_log=None)
        code = 0
        watching = asyncio.Event()
        try:
            for runner in (secure, plain):
                await runner.setup()
            await web.TCPSite(secure, options.host, options.port, ssl_context=self._tls.context).start()
            await web.TCPSite(plain, options.host, options.plain_port).start()
            tasks = [
                asyncio.create_task(self._watch(stop, watching)),
                asyncio.create_task(_every(_LIST_S, self._list)),
                asyncio.create_task(_every(_REGISTER_S, self._register)),
                asyncio.create_task(_every(_TRUST_S, self._trust)),
                asyncio.create_task(self._scraper.run()),
                asyncio.create_task(stop.wait()),
            ]
            taking = asyncio.create_task(take_signals_after(watching, stop))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if broken(done, _log, "the metrics API"):
                code = 1
            stop.set()
            for task in (*tasks[1:], taking):
                task.cancel()
            await asyncio.wait([*tasks, taking], timeout=2.0)
        finally:
            for runner in (secure, plain):
                await runner.cleanup()
        _log.info("ended")
        return ended_with(tasks[0], code)

    async def _watch(self, stop: asyncio.Event, ready: asyncio.Event) -> None:
        options = self._options
        await watch(self._targets, namespace=options.namespace, context=options.context, stop=stop, ready=ready)

    async def _list(self) -> None:
        for kind, selector in WATCHED.items():
            version, bodies = await self._kube.find_cached(kind, self._options.namespace, selector)
            self._targets.replace(kind, bodies, version)
        self._listed = True

    async def _register(self) -> None:
        standing = await self._registration.look()
        # Last: the API server trusts the authority of the new certificate before the certificate is shown.
        self._tls.show(standing.serving)
        self._owned.set(not standing.owner)
        self._api.tells = bool(standing.owner)  # then it may be KEDA's, which asks so and cannot show who it is
        self._placed = True

    async def _trust(self) -> None:
        config = await self._kube.get(CONFIG_MAP, CONFIG_NAMESPACE, CONFIG_NAME)
        front = FrontProxy.of(config or {})
        self._tls.trust(front.authority)
        self._api.front = front


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do something for ever; what fails is done again soon."""
    told = ""
    while True:
        wait = seconds
        try:
            await work()
            told = ""
        except Conflict:
            wait = _AGAIN_S  # another of us was faster
        except StillhouseError as error:
            wait = _AGAIN_S if isinstance(error, KubeError) else seconds
            if str(error) != told:
                _log.warning("%s", " ".join(" ".join(error.problem.lines()).split()))
            told = str(error)
        await asyncio.sleep(wait * random.uniform(0.9, 1.1))  # so that replicas do not ask together
