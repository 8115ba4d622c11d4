"""The ServiceMonitor: by it a Prometheus that its operator runs finds the metrics of a model's pods."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import labels, names
from stillhouse.resources.wanted import ClusterSettings, Owner, metadata

__all__ = ["gateway_monitor", "service_monitor"]


def service_monitor(owner: Owner, settings: ClusterSettings) -> dict[str, Any]:
    """Return the ServiceMonitor. It chooses the headless Service of the pods, which is the one that has the metrics' port."""
    return _monitor(owner, settings, names.workload(owner.name), "serve")


def gateway_monitor(owner: Owner, settings: ClusterSettings) -> dict[str, Any]:
    """Return the same of the gateway's pods."""
    return _monitor(owner, settings, names.gateway(owner.name), "gateway")


def _monitor(owner: Owner, settings: ClusterSettings, name: str, component: str) -> dict[str, Any]:
    meta = metadata(owner, name, component)
    meta["labels"] = {**settings.monitor_labels, **meta["labels"]}
    chosen = {**labels.selector(owner.name, names.VARIANT), labels.COMPONENT: component}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": chosen},
            "endpoints": [{"port": "metrics", "interval": settings.monitor_interval}],
            "targetLabels": [labels.MODEL, labels.VARIANT],
        },
    }
