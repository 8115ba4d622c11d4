"""The watch and the economics, for Prometheus. Read when somebody asks; nothing is counted twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stillhouse.edge.agreement.shares import Share
from stillhouse.edge.agreement.verdict import State
from stillhouse.edge.agreement.watch import Watch
from stillhouse.edge.economics import Economics

__all__ = ["Exposed"]

_P = "stillhouse_edge_"


class Exposed(Collector):
    """`economics()` gives the figures of now; `watch` None: there is none."""

    def __init__(self, economics: Callable[[], Economics], watch: Watch | None) -> None:
        self._economics, self._watch = economics, watch

    def collect(self) -> Iterable[Metric]:
        """Yield what `prometheus_client` asks for."""
        yield from _of_economics(self._economics())
        if self._watch is not None:
            yield from _of_watch(self._watch)


def _of_economics(now: Economics) -> Iterator[Metric]:
    counters = (
        ("answers", "Rows that were answered.", now.rows),
        ("escalated", "Rows that the larger model answered.", now.escalated),
        ("cloud_calls", "Requests that the larger model was asked for and answered, late ones too.", now.calls),
        ("cloud_calls_late", "Requests that it answered later, from the queue.", now.late),
        ("cloud_calls_avoided", "Requests that needed no call.", now.avoided),
        ("answered_away", "Requests that the edge answered since the larger model was away.", now.away),
        ("cpu_seconds", "CPU of the gateway's process since it was ready to serve.", now.cpu_s),
        ("leg_cpu_seconds", "CPU of the small model's inferences.", now.edge_cpu_s),
    )
    for name, told, value in counters:
        yield CounterMetricFamily(_P + name, told, value=value)
    if now.cost is not None and now.cost_without is not None:
        labels = ["currency", "edge"]
        cost = GaugeMetricFamily(
            _P + "cost_per_thousand", "Cost of a thousand answers, with the edge and without.", labels=labels
        )
        cost.add_metric([now.currency, "with"], now.cost)
        cost.add_metric([now.currency, "without"], now.cost_without)
        yield cost


def _of_watch(watch: Watch) -> Iterator[Metric]:
    observed = watch.observed()
    verdict = observed.verdict
    compared = CounterMetricFamily(
        _P + "comparisons", "Comparisons with the larger model, by what became of them.", labels=["outcome"]
    )
    for outcome, count in sorted(observed.outcomes.items()):
        compared.add_metric([outcome], count)
    yield compared
    yield CounterMetricFamily(_P + "disagreements", "Compared rows with another answer.", value=observed.disagreed)
    waiting = GaugeMetricFamily(_P + "comparisons_waiting", "Comparisons that wait.")
    waiting.add_metric([], observed.waiting)
    yield waiting
    for name, told, share in (
        ("agreement", "All answers of the window that are the larger model's.", verdict.figures.agreement),
        ("leg_agreement", "The edge's answers of the window that are the larger model's.", verdict.figures.edge),
        ("escalation", "Rows of the window that were escalated.", verdict.figures.escalation),
    ):
        yield _share(_P + name, f"{told} Estimate and 95 % interval.", share)
    if verdict.figures.psi is not None:
        drift = GaugeMetricFamily(_P + "confidence_psi", "Population stability index of the window's confidences.")
        drift.add_metric([], verdict.figures.psi)
        yield drift
    outside = GaugeMetricFamily(
        _P + "outside", "1 while a condition holds, 0 while not, NaN while too little is known.", labels=["condition"]
    )
    for name, state in verdict.questions.items():
        outside.add_metric([name], math.nan if state is State.TOO_LITTLE else float(state is State.OUTSIDE))
    yield outside
    if observed.samples is not None:
        kept = CounterMetricFamily(_P + "samples", "Samples for training, by what became of them.", labels=["outcome"])
        for name, count in sorted(observed.samples.items()):
            kept.add_metric([name], count)
        yield kept
        size = GaugeMetricFamily(_P + "samples_bytes", "Bytes of the samples on disk.")
        size.add_metric([], observed.sample_bytes)
        yield size


def _share(name: str, told: str, share: Share) -> Metric:
    metric = GaugeMetricFamily(name, told, labels=["value"])
    for label, value in (("estimate", share.estimate), ("low", share.low), ("high", share.high)):
        metric.add_metric([label], value)
    return metric
