"""The HorizontalPodAutoscaler."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import names
from stillhouse.resources.wanted import ClusterSettings, Owner, Scaling, metadata

__all__ = ["autoscaler"]

_DOWN_AFTER_S = 300


def autoscaler(owner: Owner, scaling: Scaling, settings: ClusterSettings) -> dict[str, Any] | None:
    """Return the autoscaler, None in mode `external`, where somebody else decides.

    Up at once and at most fourfold in 15 s, down by a half a minute at most, and only after five minutes with less load.
    """
    if scaling.mode == "external":
        return None
    spec: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.workload(owner.name)},
        "minReplicas": scaling.least,
        "maxReplicas": scaling.most,
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": settings.cpu_target_percent},
                },
            }
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "selectPolicy": "Max",
                "policies": [
                    {"type": "Percent", "value": 300, "periodSeconds": 15},
                    {"type": "Pods", "value": 4, "periodSeconds": 15},
                ],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": _DOWN_AFTER_S,
                "selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
            },
        },
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(owner, names.workload(owner.name), "serve"),
        "spec": spec,
    }
