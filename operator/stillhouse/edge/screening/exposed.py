"""The guard's and the audit log's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stillhouse.edge.screening.recorder import Recorder
from stillhouse.edge.screening.screen import Screen

__all__ = ["GuardMetrics"]


class GuardMetrics(Collector):
    """Tells what the guard did when somebody asks. Labels are names of the configuration and of ours, never a client's."""

    def __init__(self, screens: Mapping[str, Screen], recorder: Recorder | None) -> None:
        self._screens, self._recorder = screens, recorder

    def collect(self) -> Iterable[Metric]:
        """Yield what `prometheus_client` asks for."""
        refused = CounterMetricFamily(
            "stillhouse_gateway_guard_refused", "Inferences that the guard refused.", labels=["model", "reason"]
        )
        masked = CounterMetricFamily("stillhouse_gateway_guard_masked", "Places that were masked.", labels=["model", "pattern"])
        known = GaugeMetricFamily(
            "stillhouse_gateway_guard_informed", "0 while no backend tells what the model takes.", labels=["model"]
        )
        for model, screen in self._screens.items():
            for reason, count in sorted(screen.refused.items()):
                refused.add_metric([model, reason], count)
            for pattern, count in sorted(screen.masked.items()):
                masked.add_metric([model, pattern], count)
            known.add_metric([model], float(not screen.known.trouble))
        if self._screens:
            yield from (refused, masked, known)
        if self._recorder is not None:
            yield from _audit(self._recorder)


def _audit(recorder: Recorder) -> Iterable[Metric]:
    journal = recorder.journal
    for name, words, value in (
        ("records", "Audit records that were taken.", journal.written),
        ("dropped", "Audit records that the disk did not take; a gap in the log says where.", journal.dropped),
        ("unrecorded", "Refusals that are only counted: a client asked too often.", recorder.unrecorded),
    ):
        counter = CounterMetricFamily(f"stillhouse_gateway_audit_{name}", words)
        counter.add_metric([], value)
        yield counter
    for name, words, gauge in (
        ("waiting", "Audit records that are not in a file yet.", float(journal.waiting)),
        ("writable", "0 while the audit log takes nothing.", float(not journal.trouble)),
    ):
        family = GaugeMetricFamily(f"stillhouse_gateway_audit_{name}", words)
        family.add_metric([], gauge)
        yield family
