"""From a decision to the children that must be there. Pure."""

from __future__ import annotations

from typing import Any

from stillhouse.reconcile.decide import Decision
from stillhouse.resources.autoscaler import autoscaler
from stillhouse.resources.deployment import deployment
from stillhouse.resources.guards import account, build_policy, disruption_budget, network_policy
from stillhouse.resources.metrics_api import Figures
from stillhouse.resources.monitor import service_monitor
from stillhouse.resources.services import backend_service, client_service
from stillhouse.resources.wanted import ClusterSettings, Owner

__all__ = ["KINDS", "children"]

_CPU = Figures("cpu")

KINDS = (
    "ServiceAccount", "NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler",
    "ScaledObject", "ServiceMonitor",
)  # fmt: skip
"""Kinds of serving children, in the order in which they are written: what guards a pod is there before the pod."""


def children(
    owner: Owner, decision: Decision, settings: ClusterSettings, *, monitors: bool = False, figures: Figures = _CPU
) -> list[dict[str, Any]]:
    """Return every serving child, in the order of writing; none before a revision is accepted.

    `monitors`: the cluster knows ServiceMonitors; `figures`: what mode `hpa` goes by.
    """
    found: list[dict[str, Any]] = []
    if decision.build or decision.serving:
        found.append(account(owner))
    if decision.build:
        found.append(build_policy(owner, settings))
    if decision.serving is None:
        return found
    found += [
        network_policy(owner, settings),
        client_service(owner),
        backend_service(owner),
        deployment(owner, decision.serving, decision.scaling, settings),
        disruption_budget(owner),
    ]
    scaler = autoscaler(owner, decision.scaling, settings, figures)
    found += [scaler] if scaler else []
    return [*found, service_monitor(owner, settings)] if monitors and settings.monitors else found
