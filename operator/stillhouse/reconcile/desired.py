"""From a decision to the children that must be there. Pure."""

from __future__ import annotations

from typing import Any

from stillhouse.reconcile.decide import Decision
from stillhouse.reconcile.front import NONE, Front
from stillhouse.resources.autoscaler import autoscaler
from stillhouse.resources.bridge import bridge
from stillhouse.resources.deployment import deployment
from stillhouse.resources.gateway import gateway_budget, gateway_workload
from stillhouse.resources.gateway_guards import gateway_account, gateway_binding, gateway_policy
from stillhouse.resources.gateway_place import watches
from stillhouse.resources.guards import account, build_policy, disruption_budget, network_policy, workers_policy
from stillhouse.resources.metrics_api import Figures
from stillhouse.resources.monitor import gateway_monitor, service_monitor
from stillhouse.resources.services import (
    backend_service,
    client_service,
    local_service,
    metrics_service,
    middle_service,
    revision_service,
    workers_service,
)  # fmt: skip
from stillhouse.resources.wanted import ClusterSettings, Gateway, Owner

__all__ = ["KINDS", "children"]

_CPU = Figures("cpu")

KINDS = (
    "ServiceAccount", "RoleBinding", "NetworkPolicy", "Service", "Deployment", "DaemonSet", "PodDisruptionBudget",
    "HorizontalPodAutoscaler", "ScaledObject", "ServiceMonitor",
)  # fmt: skip
"""Kinds of serving children, in the order in which they are written: what guards a pod is there before the pod."""


def children(
    owner: Owner,
    decision: Decision,
    settings: ClusterSettings,
    *,
    monitors: bool = False,
    figures: Figures = _CPU,
    front: Front = NONE,
) -> list[dict[str, Any]]:
    """Return every serving child, in the order of writing; none before a revision is accepted. Of steps, gateways are all.

    `monitors`: the cluster knows ServiceMonitors; `figures`: what mode `hpa` goes by; `front`: whether a gateway stands before
    the pods.
    """
    found: list[dict[str, Any]] = []
    if decision.build or decision.serving:
        found.append(account(owner))
    if decision.build:
        found.append(build_policy(owner, settings))
        if decision.builds.workers > 1:
            found += [workers_policy(owner, decision.request), workers_service(owner, decision.request)]
    if decision.serving is None and front.gateway is None:
        return found
    rest = front.gateway is not None and front.gateway.edge.rest
    monitors = monitors and settings.monitors
    # Before the clients' Service: when it goes back to the model's pods, these have to answer everybody.
    found += [network_policy(owner, settings, gateway_only=front.gateway_only)] if decision.serving is not None else []
    found += [client_service(owner, gateway=front.serves, rest=rest, moved=front.moved)] if not front.held else []
    if decision.serving is not None:
        found += [
            backend_service(owner),
            deployment(owner, decision.serving, decision.scaling, settings),
            disruption_budget(owner),
        ]
        scaler = autoscaler(owner, decision.scaling, settings, figures)
        found += [scaler] if scaler else []
        found += [service_monitor(owner, settings)] if monitors else []
    if decision.mqtt is not None and not front.held:
        tls = front.serves and front.gateway is not None and front.gateway.edge.tls is not None
        found += bridge(owner, decision.mqtt, settings, gateway=front.serves, tls=tls)
    if front.gateway is None:
        return found
    return [*found, *_gateway(owner, front.gateway, front, settings, monitors=monitors)]


def _gateway(owner: Owner, gateway: Gateway, front: Front, settings: ClusterSettings, *, monitors: bool) -> list[dict[str, Any]]:
    """Return the gateway's own children."""
    budget = gateway_budget(owner, gateway)
    return [
        gateway_account(owner),
        *([gateway_binding(owner, settings)] if watches(gateway) or front.watched else []),
        gateway_policy(owner, gateway, settings, asks=bool(front.revisions) or front.former, targets=front.targets),
        metrics_service(owner),
        *(revision_service(owner, each) for each in front.revisions),
        *(middle_service(owner, each) for each in front.middles),
        *([local_service(owner, rest=gateway.edge.rest)] if gateway.per_node else []),
        gateway_workload(owner, gateway, settings),
        *([budget] if budget else []),
        *([gateway_monitor(owner, settings)] if monitors else []),
    ]
