"""What is said of the bridge between a broker and a model: its condition. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.api.broker import Mqtt
from stillhouse.reconcile.decide import Verdict
from stillhouse.reconcile.observed import Body, Observed
from stillhouse.reconcile.stand import stands
from stillhouse.reconcile.trouble import trouble
from stillhouse.resources import labels

__all__ = ["Bridged", "bridge_verdict"]


@dataclass(frozen=True, slots=True)
class Bridged:
    """`mqtt` as the spec has it (None: no bridge is wanted), its `workload` as it is now, and which Secret it `lacks`."""

    mqtt: Mqtt | None = None
    workload: Body | None = None
    lacks: Verdict | None = None


def bridge_verdict(bridged: Bridged, observed: Observed) -> tuple[str, Verdict] | None:
    """Return whether the broker has the bridge's subscriptions; None where none is wanted."""
    if bridged.mqtt is None:
        return None
    if bridged.lacks is not None:
        return "False", bridged.lacks
    stand = stands(bridged.workload)
    told = (
        f"{stand.available} of {bridged.mqtt.replicas} bridges are connected to {bridged.mqtt.address}, {stand.updated} are new"
    )
    if stand.full:
        return "True", Verdict("BridgeServes", told)
    why = None
    if bridged.workload is not None:
        why = trouble(bridged.workload, observed.pods, {labels.COMPONENT: "bridge"}, "spec.serve.mqtt.memory")
    if why is None and stand.ended and stand.current and stand.updated == stand.replicas:
        why = Verdict("BridgeDisconnected", told)  # all were, once
    return "False", why or Verdict("BridgeStarting", told)
