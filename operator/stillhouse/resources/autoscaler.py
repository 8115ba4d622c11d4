"""What decides the number of replicas: a HorizontalPodAutoscaler, or a ScaledObject where KEDA has the external metrics."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import labels, names
from stillhouse.resources.metrics_api import PLAIN_PORT, WANTED, Figures
from stillhouse.resources.wanted import ClusterSettings, Owner, Scaling, metadata

__all__ = ["autoscaler", "by_queue"]

_CPU = Figures("cpu")
_POLL_S = 5
"""How often KEDA looks; its autoscaler asks every 15 s in any case."""


def by_queue(scaling: Scaling) -> bool:
    """Return whether a model is scaled by its queue where that can be: mode hpa, and room between least and most."""
    return scaling.mode == "hpa" and scaling.least < scaling.most


def autoscaler(owner: Owner, scaling: Scaling, settings: ClusterSettings, figures: Figures = _CPU) -> dict[str, Any] | None:
    """Return the autoscaler, None in mode `external`, where somebody else decides.

    Up at once and at most fourfold in 15 s, down by half a minute at most, and only after a while with less load.
    """
    if scaling.mode == "external":
        return None
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.workload(owner.name)}
    kind = figures.kind if by_queue(scaling) else "cpu"
    if kind == "keda":
        return _scaled_object(owner, scaling, settings, target)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(owner, names.workload(owner.name), "serve"),
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": scaling.least,
            "maxReplicas": scaling.most,
            "metrics": [_external(owner) if kind == "queue" else _cpu(settings)],
            "behavior": _behavior(settings),
        },
    }


def _cpu(settings: ClusterSettings) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": settings.cpu_target_percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _external(owner: Owner) -> dict[str, Any]:
    """Return our figure. It is a number of replicas, so an average of 1 for each of them is that number."""
    chosen = {"matchLabels": {labels.MODEL: owner.name}}
    target = {"type": "AverageValue", "averageValue": "1"}
    return {"type": "External", "external": {"metric": {"name": WANTED, "selector": chosen}, "target": target}}


def _behavior(settings: ClusterSettings) -> dict[str, Any]:
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 300, "periodSeconds": 15},
                {"type": "Pods", "value": 4, "periodSeconds": 15},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": settings.scale_down_after_s,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }


def _scaled_object(owner: Owner, scaling: Scaling, settings: ClusterSettings, target: dict[str, Any]) -> dict[str, Any]:
    """Return the ScaledObject. Its trigger asks our metrics API for JSON; no answer leaves the replicas as they are.

    Trigger `external` would do the same by gRPC, with a server and a protocol more, for nothing that is needed here.
    """
    place = f"{settings.metrics_service}.{settings.operator_namespace}.svc:{PLAIN_PORT}"
    trigger = {
        "type": "metrics-api",
        "metricType": "AverageValue",
        "metadata": {
            "url": f"http://{place}/signals/{owner.namespace}/{owner.name}",
            "valueLocation": "wantedReplicas",
            "targetValue": "1",
        },
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(owner, names.workload(owner.name), "serve"),
        "spec": {
            "scaleTargetRef": target,
            "minReplicaCount": scaling.least,
            "maxReplicaCount": scaling.most,
            "pollingInterval": _POLL_S,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(settings)}},
            "triggers": [trigger],
        },
    }
