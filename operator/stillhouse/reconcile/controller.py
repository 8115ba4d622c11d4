"""The controller: a cache, a queue, workers, and the lists that mend what a watch has missed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping

from stillhouse.clients.kube.interface import Body, Conflict, Kube, KubeError
from stillhouse.clients.kube.kinds import (
    ACCOUNT,
    BINDING,
    CONFIG_MAP,
    DAEMON_SET,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    HPA,
    JOB,
    MODEL,
    MONITOR,
    NETWORK_POLICY,
    POD,
    REVISION,
    SCALED_OBJECT,
    SERVICE,
    Kind,
)  # fmt: skip
from stillhouse.reconcile.cache import Cache, Key
from stillhouse.reconcile.figures import LOOK_S, look
from stillhouse.reconcile.metrics import Metrics
from stillhouse.reconcile.queue import KeyedQueue
from stillhouse.reconcile.reconciler import Reconciler
from stillhouse.resources import labels
from stillhouse.resources.wanted import ClusterSettings

__all__ = ["OPTIONAL", "RESYNC_S", "WATCHED", "WORKERS", "Controller"]

WORKERS = 16
"""Models that are worked on at once: each waits for the API server most of the time."""
RESYNC_S = 600.0
_OURS = labels.MODEL
WATCHED: Mapping[Kind, str] = {
    MODEL: "",
    REVISION: _OURS,
    DEPLOYMENT: _OURS,
    DAEMON_SET: _OURS,
    SERVICE: _OURS,
    ACCOUNT: _OURS,
    BINDING: _OURS,
    NETWORK_POLICY: _OURS,
    DISRUPTION_BUDGET: _OURS,
    HPA: _OURS,
    JOB: _OURS,
    POD: _OURS,
    CONFIG_MAP: labels.SOURCES_LABEL,
}
"""Every kind that is watched, with the label selector that the server applies: else each Deployment of the cluster streams by."""
OPTIONAL: Mapping[Kind, str] = {MONITOR: _OURS, SCALED_OBJECT: _OURS}
"""The same, of kinds that a cluster need not know."""

_log = logging.getLogger(__name__)


class Controller:
    """Keeps every model of the namespaces that it sees as its resource asks. Workers run while `lead` has been called."""

    def __init__(
        self, kube: Kube, settings: ClusterSettings, metrics: Metrics, *, namespace: str = "", instance: str = "stillhouse"
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._settings = settings
        self._metrics = metrics
        self.cache = Cache()
        self.queue: KeyedQueue[Key] = KeyedQueue()
        self._reconciler = Reconciler(kube, self.cache, settings, instance=instance)
        self._workers: list[asyncio.Task[None]] = []
        self._may: Callable[[], bool] = lambda: True
        self.kinds: Mapping[Kind, str] = WATCHED
        """What of it the cluster knows, with the selectors; found out by every list."""
        self.grown = asyncio.Event()
        """Set once the cluster knows a kind that it did not at the first list: who watches from then on does not see it."""
        self._first: frozenset[Kind] | None = None
        metrics.depth.set_function(lambda: self.queue.depth)
        metrics.oldest.set_function(lambda: self.queue.oldest_s)
        metrics.models.set_function(lambda: sum(1 for _ in self.cache.models()))

    def see(self, event: str, body: Body) -> None:
        """Take in what a watch tells. `event` is ADDED, MODIFIED, DELETED, or empty for what a list had."""
        self._metrics.events.labels(body.get("kind", "")).inc()
        touched = self.cache.drop(body) if event == "DELETED" else self.cache.put(body)
        for key in touched:
            self.queue.add(key)

    def wrote(self, plural: str, version: int) -> bool:
        """Return whether an event of a kind tells of our own write alone, which the cache has from the write's answer."""
        echo = self.cache.is_echo(plural, version)
        if echo:
            self._metrics.echoes.inc()
        return echo

    def writing(self) -> bool:
        """Return whether a model is worked on."""
        return not self.queue.idle

    async def list_all(self) -> int:
        """Make the cache what the server has; return how many models were touched. What a watch has missed comes back so."""
        touched: set[Key] = set()
        optional = {kind: selector for kind, selector in OPTIONAL.items() if await self._kube.serves(kind)}
        for kind, selector in [*WATCHED.items(), *optional.items()]:
            before = self.cache.versions(kind.name)
            try:
                found = await self._kube.find(kind, self._namespace, selector)
            except KubeError as error:
                if kind not in optional:
                    raise
                _log.warning("%s cannot be listed, and is done without: %s", kind.name, error)
                del optional[kind]
                continue
            touched |= self.cache.replace(kind.name, found, before)
            await asyncio.sleep(0)
        self.kinds = {**WATCHED, **optional}
        self._reconciler.monitors = MONITOR in optional
        for key in touched:
            self.queue.add(key)
        self._grow(frozenset(optional))
        self._metrics.listed.set(time.time())
        return len(touched)

    def _grow(self, optional: frozenset[Kind]) -> None:
        if self._first is None:
            self._first = optional
        new = optional - self._first
        if new and not self.grown.is_set():
            kinds = ", ".join(sorted(each.name for each in new))
            _log.warning("the cluster has come to know %s, which nobody watches here yet; this process ends, to watch it", kinds)
            self.grown.set()

    def lead(self, may: Callable[[], bool] = lambda: True) -> None:
        """Begin to work; every model is looked at once. Where `may` says no any more, no other model is begun."""
        self._may = may
        self._metrics.leads.set(1)
        for key in list(self.cache.models()):
            self.queue.add(key)
        self._workers = [asyncio.create_task(self._work(), name=f"worker-{number}") for number in range(WORKERS)]

    async def rest(self, grace_s: float = 5.0) -> None:
        """End: reconciles that are at work get `grace_s` to end; they can be left at any line."""
        self._metrics.leads.set(0)
        self.queue.close()
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers, timeout=grace_s)
        self._workers = []

    async def follow_figures(self) -> None:
        """Look now and then whose the external metrics are, and put every model in order where that has changed: for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(KubeError):  # what was known goes on
                await self.look_for_figures()

    async def look_for_figures(self) -> None:
        """Look whose the external metrics are, now.

        Raises:
            KubeError: the API server does not say.
        """
        found = await look(self._kube, self._settings)
        if found != self._reconciler.figures:
            _log.info("models of mode hpa scale by: %s", found.kind, extra={"why": found.why})
            self._reconciler.figures = found
            for key in list(self.cache.models()):
                self.queue.add(key)

    async def resync(self, every_s: float = RESYNC_S) -> None:
        """List everything again after some time, and queue every model: for ever."""
        while True:
            await asyncio.sleep(every_s * random.uniform(0.9, 1.1))
            try:
                missed = await self.list_all()
                if missed:
                    _log.info("a list found what no watch had told", extra={"models": missed})
            except KubeError as error:
                _log.warning("the cluster cannot be listed; watches go on: %s", error)
            for key in list(self.cache.models()):
                self.queue.add(key)

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            started = time.monotonic()
            failed, after, later, result = True, 0.0, 0.0, "error"
            try:
                if self._may():  # else it comes back: the lease may be renewed yet
                    later = await self._reconciler.reconcile(key)
                    failed, result = False, "done"
            except Conflict:
                result = "conflict"  # the cache was behind; what it waits for is on its way
            except KubeError as error:
                after = error.retry_after_s
                _log.warning("reconcile: %s", error, extra={"model": "/".join(key)})
            except Exception:
                _log.exception("reconcile failed: a bug", extra={"model": "/".join(key)})
            finally:
                self.queue.done(key, failed=failed, retry_after_s=after)
                for other in self.cache.stirred():
                    self.queue.add(other)
                if later:
                    self.queue.add_later(key, later)
                self._metrics.reconciles.labels(result).inc()
                self._metrics.seconds.observe(time.monotonic() - started)
