"""What is said of the gateway before a model's pods: its condition, and its part of the status. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stillhouse.reconcile.agreement import said
from stillhouse.reconcile.decide import Verdict
from stillhouse.reconcile.front import Front
from stillhouse.reconcile.observed import Body, Observed
from stillhouse.reconcile.stand import stands
from stillhouse.reconcile.trouble import trouble
from stillhouse.resources import gateway_place, labels

__all__ = ["Ahead", "agreement_verdict", "gateway_verdict"]

_ENDS = "queue, audit log and collected requests end with their pod (spec.edge.run.claim keeps them)"
_HELD = "they run the steps of before until what the spec asks for answers, and nothing of them changes meanwhile"


@dataclass(frozen=True, slots=True)
class Ahead:
    """`front` as it was decided, the gateway's `workload` as it is now, and which Secret it `lacks`."""

    front: Front
    workload: Body | None = None
    lacks: Verdict | None = None

    @property
    def local(self) -> bool:
        """Return whether clients are to ask the gateway of their own node."""
        if self.front.held:
            return self.front.serves and (self.workload or {}).get("kind") == "DaemonSet"
        return self.front.gateway is not None and self.front.gateway.per_node and self.front.serves

    @property
    def told(self) -> dict[str, Any] | None:
        """Return what the status has of it; None where there is none, or it leaves."""
        stand, gateway = stands(self.workload), self.front.gateway
        counted = {"replicas": stand.replicas, "readyReplicas": stand.available}
        if self.front.held and self.workload is not None:
            of = str((self.workload["spec"]["template"]["metadata"].get("labels") or {}).get(labels.REVISION) or "")
            return {"kind": self.workload["kind"], **counted, "revision": of}
        if gateway is None:
            return None
        revision = {"revision": gateway.revision} if gateway.bound else {}
        return {"kind": gateway.edge.run.kind, **counted, **revision}


def gateway_verdict(ahead: Ahead, observed: Observed) -> tuple[str, Verdict] | None:
    """Return whether the gateway answers clients; None where there is none and none is wanted."""
    front = ahead.front
    if front.leaving:
        here = (
            "clients are led back to the model's pods" if front.leaving == "settling" else "its pods answer who still knows them"
        )
        return "False", Verdict("GatewayLeaving", here)
    if front.held:
        told = f"{stands(ahead.workload).available} gateways answer; {_HELD}"
        return "True" if stands(ahead.workload).available else "False", Verdict("GatewayServes", told)
    if front.gateway is None:
        return None
    stand = stands(ahead.workload)
    told = f"{stand.available} of {stand.wanted} gateways answer, {stand.updated} are new"
    why = ahead.lacks
    if why is None and ahead.workload is not None and not stand.full:
        chosen = {labels.COMPONENT: "gateway"}
        why = trouble(ahead.workload, observed.pods, chosen, "spec.edge.run.resources.limits.memory")
    if why is not None and (why.reason != "Unschedulable" or not stand.complete):  # more nodes may be on their way
        return "False", why
    if not front.serves or not stand.complete:
        return "False", Verdict("GatewayStarting", told if front.serves else f"{told}; clients go to the model's pods meanwhile")
    edge = front.gateway.edge
    ends = gateway_place.written(edge) > 0 and not gateway_place.outlives(edge)
    return "True", Verdict("GatewayServes", f"{told}; {_ENDS}" if ends else told)


def agreement_verdict(ahead: Ahead, observed: Observed) -> tuple[str, Verdict] | None:
    """Return whether the agreement watches are within their bounds; None where there is no cascade that is watched."""
    gateway = ahead.front.gateway
    if gateway is None or gateway.cascade is None or gateway.edge.agreement is None:
        return None
    known = said(observed)
    if known is None:
        return "Unknown", Verdict("AgreementUnknown", "no gateway has been asked yet")
    return known.status, Verdict(known.reason, known.message)
