"""The ServiceMonitor: by it a Prometheus that its operator runs finds the metrics of a model's pods."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import labels, names
from stillhouse.resources.wanted import ClusterSettings, Owner, metadata

__all__ = ["service_monitor"]


def service_monitor(owner: Owner, settings: ClusterSettings) -> dict[str, Any]:
    """Return the ServiceMonitor. It chooses the headless Service of the pods, which is the one that has the metrics' port."""
    meta = metadata(owner, names.workload(owner.name), "serve")
    meta["labels"] = {**settings.monitor_labels, **meta["labels"]}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": labels.selector(owner.name, names.VARIANT)},
            "endpoints": [{"port": "metrics", "interval": settings.monitor_interval}],
            "targetLabels": [labels.MODEL, labels.VARIANT],
        },
    }
