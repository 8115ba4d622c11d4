"""What guards the pods: a disruption budget, a network policy, an account that may do nothing."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import labels, names
from stillhouse.resources.services import GRPC_PORT, METRICS_PORT
from stillhouse.resources.wanted import ClusterSettings, Owner, metadata

__all__ = ["account", "disruption_budget", "network_policy"]

_NAMESPACE_NAME = "kubernetes.io/metadata.name"


def disruption_budget(owner: Owner) -> dict[str, Any]:
    """Return the budget: one pod at a time is drained; one that is not healthy may always go."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels.selector(owner.name, names.VARIANT)},
    }
    return _object("policy/v1", "PodDisruptionBudget", metadata(owner, names.workload(owner.name), "serve"), spec)


def network_policy(owner: Owner, settings: ClusterSettings) -> dict[str, Any]:
    """Return the policy: gRPC from everywhere in the cluster, metrics from the operator's and monitoring's, nothing goes out."""
    reading = {settings.operator_namespace: None, settings.monitoring_namespace: None}
    readers = [{"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: name}}} for name in reading if name]
    spec = {
        "podSelector": {"matchLabels": labels.selector(owner.name, names.VARIANT)},
        "policyTypes": ["Egress", "Ingress"],
        "ingress": [
            {"ports": [{"port": GRPC_PORT, "protocol": "TCP"}]},
            {"from": readers, "ports": [{"port": METRICS_PORT, "protocol": "TCP"}]},
        ],
    }
    return _object("networking.k8s.io/v1", "NetworkPolicy", metadata(owner, names.workload(owner.name), "serve"), spec)


def account(owner: Owner) -> dict[str, Any]:
    """Return the ServiceAccount: no role is bound to it, and pods get no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(owner, names.account(owner.name), "serve"),
        "automountServiceAccountToken": False,
    }


def _object(version: str, kind: str, meta: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}
