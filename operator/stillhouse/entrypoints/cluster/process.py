"""One operator: lists, watches, stands for election, works while it leads, and ends in an order that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

from stillhouse.clients.agreement import AgreementReader
from stillhouse.clients.kube.api import connect
from stillhouse.clients.kube.interface import KubeError
from stillhouse.clients.progress import ProgressReader
from stillhouse.entrypoints.cluster import health
from stillhouse.entrypoints.cluster.beat import LOST, Beat
from stillhouse.entrypoints.cluster.ending import broken, ended_with, take_signals, take_signals_after
from stillhouse.entrypoints.cluster.watching import SILENCE_S, watch
from stillhouse.reconcile.agreement import ASK_S, Watching
from stillhouse.reconcile.controller import RESYNC_S, Controller
from stillhouse.reconcile.leader import Leadership
from stillhouse.reconcile.metrics import Metrics
from stillhouse.reconcile.progress import Polling
from stillhouse.resources.jobs import PROGRESS_PORT
from stillhouse.resources.services import METRICS_PORT
from stillhouse.resources.wanted import ClusterSettings

__all__ = ["LOST", "NEW_KIND", "Options", "run"]

NEW_KIND = 6
"""Exit code of a process that ends because the cluster has come to know a kind: kopf's watches are fixed as they begin. The
kubelet starts it anew."""
_RETRY_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a process is started with. `namespace` empty: the whole cluster; `lease_namespace` where the Lease lies."""

    namespace: str = ""
    lease_namespace: str = "stillhouse"
    lease_name: str = "stillhouse-operator"
    identity: str = "stillhouse"
    context: str = ""
    host: str = "0.0.0.0"  # noqa: S104 - in a pod of its own; the network policy says who may
    port: int = 8080
    resync_s: float = RESYNC_S
    silence_s: float = SILENCE_S
    agreement_s: float = ASK_S
    settings: ClusterSettings = field(default_factory=ClusterSettings)


async def run(options: Options) -> int:
    """Run until SIGTERM or SIGINT (0), leadership is lost (`LOST`), or there is a kind to watch (`NEW_KIND`)."""
    stop = asyncio.Event()
    take_signals(stop)
    code = 0
    metrics = Metrics()
    async with (
        await connect(options.context) as kube,
        ProgressReader(PROGRESS_PORT) as workers,
        AgreementReader(METRICS_PORT) as gateways,
    ):
        controller = Controller(kube, options.settings, metrics, namespace=options.namespace, instance=options.identity)
        listed = False

        def lost() -> None:
            nonlocal code
            code = LOST
            _log.error("the lease was lost; this process ends")
            stop.set()

        def gained() -> None:
            _log.info("this process leads")
            controller.lead(lambda: not leadership.overdue)

        leadership = Leadership(kube, options.lease_namespace, options.lease_name, options.identity, gained=gained, lost=lost)
        polling = Polling(controller.cache, controller.queue.add, workers.read)
        watching_over = Watching(controller.cache, controller.queue.add, gateways.read)
        beat = Beat(lambda: leadership.overdue)
        endpoint = await health.serve(options.host, options.port, metrics.registry, alive=beat.wrong, ready=lambda: listed)
        # From the beginning: a cluster that cannot be listed for a while is no reason to be killed.
        beating = asyncio.create_task(beat.run())
        try:
            while not stop.is_set() and not listed:
                try:
                    await controller.list_all()
                    await controller.look_for_figures()  # before any work: else a restart would turn every autoscaler to CPU
                    listed = True
                except KubeError as error:
                    _log.warning("the cluster cannot be listed yet: %s", error)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), _RETRY_S)
            watching = asyncio.Event()
            place = {"namespace": options.namespace, "context": options.context}
            watches = watch(controller, **place, silence_s=options.silence_s, stop=stop, ready=watching)
            tasks = [
                asyncio.create_task(watches),
                asyncio.create_task(take_signals_after(watching, stop)),
                asyncio.create_task(controller.resync(options.resync_s)),
                asyncio.create_task(polling.run(lambda: leadership.leads)),
                asyncio.create_task(watching_over.run(lambda: leadership.leads, options.agreement_s)),
                asyncio.create_task(controller.follow_figures()),
                asyncio.create_task(leadership.run()),
                beating,
                asyncio.create_task(controller.grown.wait()),
            ]
            ends = [*tasks[:1], *tasks[2:], asyncio.create_task(stop.wait())]
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if broken(done, _log, "the operator"):
                code = 1
            if controller.grown.is_set() and not code and not stop.is_set():
                code = NEW_KIND
            # First no more writes, then the lease, so that the next one never meets ours; the watches can take their time.
            stop.set()
            for task in tasks[1:]:
                task.cancel()
            await asyncio.wait(tasks[1:], timeout=_RETRY_S)
            await controller.rest()
            await leadership.release()
            await asyncio.wait(tasks, timeout=_RETRY_S)
        finally:
            await endpoint.cleanup()
    _log.info("ended")
    return ended_with(tasks[0], code)
