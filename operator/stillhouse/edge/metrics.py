"""What the gateway counts, for Prometheus. Every request counts with plain integers; the rest is done when somebody asks."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stillhouse.edge.away.overload import Admission
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.screening.building import Guarding
from stillhouse.edge.status import Code
from stillhouse.edge.wire.call import Peer

__all__ = ["Counts", "Exposition"]

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; from a small model on the same machine to a large one behind a bad line."""


class Counts:
    """Inferences by model and code, and how long they took."""

    def __init__(self) -> None:
        self.ended: defaultdict[tuple[str, Code], int] = defaultdict(int)
        self.buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_BOUNDS) + 1))
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def count(self, model: str, code: Code, seconds: float) -> None:
        """Note how an inference ended. `model` is one that there is, or "": a client must not make names here."""
        self.ended[model, code] += 1
        self.buckets[model][bisect_left(_BOUNDS, seconds)] += 1
        self.seconds[model] += seconds


class Exposition(Collector):
    """Tells counts, pools and the door when it is asked. `now`: the pools' clock.

    `status()`: the document of `/status` (`report.report`), None: there is none. `more`: other parts' metrics.
    `missing()`: the models that answer for themselves, and cannot. `guarding`: says why it lets nothing through.
    `troubles()`: what is wrong and keeps no answer from being given.
    """

    def __init__(
        self,
        counts: Counts,
        pools: Mapping[str, Pool],
        admission: Admission,
        now: Any,
        status: Callable[[], Mapping[str, Any]] | None = None,
        more: Sequence[Collector] = (),
        missing: Callable[[], list[str]] = list,
        guarding: Guarding | None = None,
        troubles: Callable[[], list[str]] = list,
    ) -> None:
        self._troubles = troubles
        self._counts, self._pools, self._admission, self._now = counts, pools, admission, now
        self._status, self._missing, self._guarding = status, missing, guarding
        self._registry = CollectorRegistry()
        for each in (self, *more):
            self._registry.register(each)

    async def answer(self, request: Any, peer: Peer) -> None:
        """Answer `GET /metrics`, `/status`, `/healthz` (this process lives) and `/readyz` (every model has somebody to ask)."""
        status, kind, body = 404, "text/plain; charset=utf-8", b"there is /metrics, /status, /healthz and /readyz\n"
        if request.method == "GET" and request.path == "/metrics":
            status, kind, body = 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        elif request.method == "GET" and request.path == "/status" and self._status is not None:
            status, kind, body = 200, "application/json", json.dumps(self._status(), allow_nan=False).encode() + b"\n"
        elif request.method == "GET" and request.path == "/healthz":
            status, body = 200, b"ok\n"
        elif request.method == "GET" and request.path == "/readyz":
            missing = [name for name, pool in self._pools.items() if not pool.ready]
            missing += self._missing()
            blocked = [f"no backend of {', '.join(missing)}"] if missing else []
            blocked += self._guarding.blocked() if self._guarding is not None else []
            troubles = [*self._troubles(), *(self._guarding.troubles() if self._guarding is not None else [])]
            status, body = 503 if blocked else 200, "".join(f"{each}\n" for each in (*(blocked or ["ok"]), *troubles)).encode()
        await request.respond(status, headers=[("content-type", kind)], body=body)

    def collect(self) -> Iterable[Metric]:
        """Yield what `prometheus_client` asks for."""
        yield from self._inferences()
        flying = GaugeMetricFamily("stillhouse_gateway_in_flight", "Inferences under way.")
        flying.add_metric([], self._admission.in_flight)
        yield flying
        limit = GaugeMetricFamily("stillhouse_gateway_in_flight_limit", "Inferences that may be under way at once.")
        limit.add_metric([], self._admission.limit.value)
        yield limit
        refused = CounterMetricFamily("stillhouse_gateway_overload_refused", "Inferences refused: too many were under way.")
        refused.add_metric([], self._admission.refused)
        yield refused
        yield from self._backends()

    def _inferences(self) -> Iterator[Metric]:
        ended = CounterMetricFamily("stillhouse_gateway_inferences", "Inferences that ended.", labels=["model", "code"])
        for (model, code), count in sorted(self._counts.ended.items()):
            ended.add_metric([model, code.name], count)
        yield ended
        took = HistogramMetricFamily("stillhouse_gateway_seconds", "Seconds from a request to its answer.", labels=["model"])
        for model, counts in sorted(self._counts.buckets.items()):
            buckets, total = [], 0
            for bound, count in zip((*map(str, _BOUNDS), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            took.add_metric([model], buckets, self._counts.seconds[model])
        yield took

    def _backends(self) -> Iterator[Metric]:
        names = ["model", "backend"]
        flying = GaugeMetricFamily("stillhouse_gateway_backend_in_flight", "Calls of a backend under way.", labels=names)
        usable = GaugeMetricFamily("stillhouse_gateway_backend_usable", "0 while a backend is left alone.", labels=names)
        budget = GaugeMetricFamily("stillhouse_gateway_retry_budget", "Retries that could be paid for now.", labels=["model"])
        now = self._now()
        for model, pool in self._pools.items():
            budget.add_metric([model], pool.budget.balance)
            for each in pool.backends:
                flying.add_metric([model, each.address], each.sender.in_flight)
                usable.add_metric([model, each.address], float(each.weight > 0 and each.ejected_until <= now))
        yield from (flying, usable, budget)
