"""The API by which autoscalers ask for our figures: its names, whose it is, and by what a model's replicas are decided. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stillhouse.resources.labels import MANAGED_BY

__all__ = ["APISERVICE", "GROUP", "PLAIN_PORT", "VERSION", "WANTED", "Figures", "figures_of", "owner_of"]

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
APISERVICE = f"{VERSION}.{GROUP}"
WANTED = "stillhouse_wanted_replicas"
PLAIN_PORT = 8080
"""Port of our Service where KEDA asks, without TLS."""
_KEDA = "keda"


@dataclass(frozen=True, slots=True)
class Figures:
    """Where mode `hpa` has its figures from: `queue` our metrics API, `keda` the same through KEDA, `cpu` CPU use.

    `why` says, of the last, what keeps it from the others.
    """

    kind: Literal["queue", "keda", "cpu"]
    why: str = ""


def owner_of(live: Mapping[str, Any], namespace: str, service: str) -> str:
    """Return "" where an APIService is that of our Service, else whose it is, in words."""
    meta, found = live["metadata"], (live.get("spec") or {}).get("service") or {}
    manager = (meta.get("labels") or {}).get(MANAGED_BY, "")
    if manager == "stillhouse" and (found.get("namespace"), found.get("name")) == (namespace, service):
        return ""
    where = f"Service {found.get('namespace')}/{found.get('name')}" if found else "the API server itself"
    return f"{where} (managed by {manager or 'nobody that it names'})"


def figures_of(live: Mapping[str, Any] | None, namespace: str, service: str, *, keda: bool) -> Figures:
    """Return where figures come from.

    `live` is the APIService, None where there is none; `service` our Service in `namespace`, "" where the metrics API is off;
    `keda` whether the cluster knows ScaledObjects.
    """
    if not service:
        return Figures("cpu", "the metrics API is turned off (metricsAPI.enabled of the chart)")
    if live is None:
        return Figures("cpu", f"{APISERVICE} is not registered")
    owner = owner_of(live, namespace, service)
    if not owner:
        return Figures("queue")
    name = str(((live.get("spec") or {}).get("service") or {}).get("name", ""))
    if keda and _KEDA in name:
        return Figures("keda")
    return Figures("cpu", f"{APISERVICE} belongs to {owner}")
