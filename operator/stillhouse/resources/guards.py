"""What guards the pods: a disruption budget, a network policy, an account that may do nothing."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import labels, names
from stillhouse.resources.jobs import PROGRESS_PORT
from stillhouse.resources.services import GRPC_PORT, METRICS_PORT
from stillhouse.resources.wanted import ClusterSettings, Owner, metadata

__all__ = ["account", "build_policy", "disruption_budget", "network_policy", "workers_policy"]

_EGRESS: tuple[dict[str, Any], ...] = (
    {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]},
    {"to": [{"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}}]},
    # Some networks match no pod by its address.
    {"to": [{"namespaceSelector": {}}]},
    # Where clusters have a DNS cache on each node, which is link-local: names alone, and no other address.
    {
        "to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}],
        "ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")],
    },
)
_NAMESPACE_NAME = "kubernetes.io/metadata.name"


def disruption_budget(owner: Owner) -> dict[str, Any]:
    """Return the budget: one pod at a time is drained; one that is not healthy may always go."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels.selector(owner.name, names.VARIANT)},
    }
    return _object("policy/v1", "PodDisruptionBudget", metadata(owner, names.workload(owner.name), "serve"), spec)


def network_policy(owner: Owner, settings: ClusterSettings, *, gateway_only: bool = False) -> dict[str, Any]:
    """Return the policy: gRPC from everywhere in the cluster, metrics from the operator's and monitoring's, nothing goes out.

    `gateway_only`: gRPC from the model's gateway alone; who comes past it is neither known nor counted there.
    """
    gateways = {"podSelector": {"matchLabels": labels.gateway(owner.name, names.VARIANT)}}
    reading = {settings.operator_namespace: None, settings.monitoring_namespace: None}
    readers = [{"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: name}}} for name in reading if name]
    spec = {
        "podSelector": {"matchLabels": labels.selector(owner.name, names.VARIANT)},
        "policyTypes": ["Egress", "Ingress"],
        "ingress": [
            {**({"from": [gateways]} if gateway_only else {}), "ports": [{"port": GRPC_PORT, "protocol": "TCP"}]},
            {"from": readers, "ports": [{"port": METRICS_PORT, "protocol": "TCP"}]},
        ],
        "egress": [],  # named, so that one which somebody adds is taken away again
    }
    return _object("networking.k8s.io/v1", "NetworkPolicy", metadata(owner, names.workload(owner.name), "serve"), spec)


def build_policy(owner: Owner, settings: ClusterSettings) -> dict[str, Any]:
    """Return the policy of a build's pods: the operator asks for progress; sources are fetched, a cloud's credentials are not.

    Link-local addresses are where clouds tell a machine its credentials.
    """
    operators = {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: settings.operator_namespace}}}
    spec = {
        "podSelector": {"matchLabels": labels.building(owner.name, names.VARIANT)},
        "policyTypes": ["Egress", "Ingress"],
        "ingress": [{"from": [operators], "ports": [{"port": PROGRESS_PORT, "protocol": "TCP"}]}],
        "egress": [*_EGRESS],
    }
    return _object("networking.k8s.io/v1", "NetworkPolicy", metadata(owner, names.build_policy(owner.name), "build"), spec)


def workers_policy(owner: Owner, request_hash: str) -> dict[str, Any]:
    """Return the policy that lets the pods of one training talk to each other, at any port: each pair chooses its own.

    What else they may do, `build_policy` says.
    """
    pods = {"matchLabels": labels.together(owner.name, names.VARIANT, request_hash)}
    spec = {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": pods}]}]}
    return _object("networking.k8s.io/v1", "NetworkPolicy", metadata(owner, names.workers(owner.name), "build"), spec)


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
