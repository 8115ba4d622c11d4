"""The operator's own metrics (Prometheus)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]


class Metrics:
    """Every metric of one operator, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "stillhouse_reconciles_total", "Reconciles that ended, by result.", ["result"], registry=self.registry
        )
        self.seconds = Histogram(
            "stillhouse_reconcile_seconds",
            "Duration of a reconcile.",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self.depth = Gauge("stillhouse_queue_depth", "Models that wait for a reconcile.", registry=self.registry)
        self.oldest = Gauge("stillhouse_queue_oldest_seconds", "How long the oldest of them has waited.", registry=self.registry)
        self.models = Gauge("stillhouse_models", "DistilledModels that are known.", registry=self.registry)
        self.leads = Gauge("stillhouse_leader", "1 where this process leads.", registry=self.registry)
        self.events = Counter(
            "stillhouse_events_total", "Events that came from watches, by kind.", ["kind"], registry=self.registry
        )
        self.echoes = Counter(
            "stillhouse_echoes_total", "Events that were left unread: they tell of our own writes.", registry=self.registry
        )
        self.listed = Gauge("stillhouse_last_list_timestamp_seconds", "When the cluster was last listed.", registry=self.registry)
