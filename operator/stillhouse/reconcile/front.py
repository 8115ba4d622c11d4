"""Who answers clients: the model's own pods, or the gateway before them; and in which order that changes. Pure.

To the gateway: its pods are ready → the clients' Service chooses them → once no client can know the model's pods any more, these
answer the gateway alone, or go, where the gateway runs steps before another model. Back: the model's pods answer everybody → the
Service chooses them → no slice of it names the gateway's pods → the gateway's workload goes, and its pods serve on until clients
have looked anew → what belonged to it goes. The rest stands in docs/design/20261126-edge-cluster.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stillhouse.reconcile.between import middle_of
from stillhouse.reconcile.decide import Decision
from stillhouse.reconcile.observed import Body, Observed, is_ready
from stillhouse.reconcile.recorded import gateway_of
from stillhouse.reconcile.stand import behind_steps, live_gateway, runs_steps, stands
from stillhouse.resources import labels, names
from stillhouse.resources.deployment import DRAIN_S
from stillhouse.resources.gateway_legs import finds_middle
from stillhouse.resources.wanted import Between, Gateway, Target

__all__ = ["LOOK_AGAIN_S", "NONE", "Front", "front", "gateway_pods", "settled"]

LOOK_AGAIN_S = 2.0
"""Slices are not watched: who waits for them looks after this long."""
_KNOWN_S = DRAIN_S + 20
"""Seconds after which no client asks an address that it had before the Service moved."""
_WORKLOADS = ("DaemonSet", "Deployment")


@dataclass(frozen=True, slots=True)
class Front:
    """`gateway`: what is wanted of one (None: nothing). `serves`: the clients' Service chooses its pods.

    `moved`: when it came to do so, empty where it did from the first. `gateway_only`: the model's pods answer the gateway alone.
    `revisions` are those that need a Service of their own, `middles` what of other models' pods needs one. `leaving`: there was
    one, and its pods stay (`settling`) or end (`ending`); `kept` are live objects (kind, name) that are not wanted and stay for
    now; `wait`: seconds after which to look again, 0: never. `former`: pods of a gateway of before may ask the model's pods;
    `targets`: whom pods that run steps ask, those that end among them. `held`: gateways that run steps stay as they are, and
    clients with them, until what the spec asks for answers.
    """

    gateway: Gateway | None = None
    serves: bool = False
    moved: str = ""
    gateway_only: bool = False
    revisions: tuple[str, ...] = ()
    middles: tuple[Between, ...] = ()
    leaving: str = ""
    kept: frozenset[tuple[str, str]] = frozenset()
    wait: float = 0.0
    former: bool = False
    targets: tuple[Target, ...] = ()
    held: bool = False

    @property
    def watched(self) -> bool:
        """Return whether gateways of before may still find pods by the API server, whatever the one that is wanted does."""
        return bool(self.revisions) or self.former or any(each.model for each in self.targets)


NONE = Front()


def front(observed: Observed, decision: Decision, now: str, *, settled: bool = False) -> Front:
    """Decide. `settled`: clients are led to the model's pods again (`settled`); `now`: RFC 3339."""
    live = _live(observed)
    if decision.frozen:
        return Front(serves=_chosen(observed) != "serve" and bool(live), kept=_whole(observed, decision))
    if decision.holds or _awaited(observed, decision):
        return Front(serves=_chosen(observed) != "serve", kept=_whole(observed, decision), held=True)
    if decision.serving is None and decision.gateway is None:
        return NONE
    if decision.gateway is None:
        return _without(observed, live, settled)
    gateway = _fitting(observed, decision, decision.gateway)
    name = names.gateway(observed.owner.name)
    workload = observed.child(gateway.edge.run.kind, name)
    ready = stands(workload).available > 0
    chosen = _chosen(observed)
    serves = chosen != "serve" or ready
    moved = _moved(observed) if chosen == "gateway" else now if chosen == "serve" and serves else ""
    left = _left(moved, now) if serves else 0.0
    # One of the other kind stays until its successor answers.
    former = {(kind, name) for kind in _WORKLOADS if kind != gateway.edge.run.kind and (kind, name) in live}
    before = gateway.steps and any(behind_steps(pod) is None for pod in gateway_pods(observed))
    if gateway.steps and (before or former or not serves or left > 0):
        # Clients, or gateways of before, still ask the model that was there: its pods go with the last who does.
        former |= _live(observed, "serve") | {place for place in live if place[0] == "Service"}
    used = {gateway.revision} if gateway.bound and gateway.asks_pods else set()
    used |= _asked(observed, gateway)
    return Front(
        gateway=gateway,
        serves=serves,
        moved=moved,
        gateway_only=serves and left <= 0 and gateway.asks_pods,
        revisions=tuple(sorted(used)),
        middles=_middles(observed, gateway),
        kept=frozenset(former if not ready or gateway.steps else ()),
        wait=max(0.0, left),
        former=before,
        targets=tuple(sorted({each for each in map(behind_steps, gateway_pods(observed)) if each is not None})),
    )


def _whole(observed: Observed, decision: Decision) -> frozenset[tuple[str, str]]:
    """Return what is there of the gateway and the bridge, the clients' Service, and where no model is wanted that of before."""
    model = _live(observed, "serve")
    clients = {("Service", names.client_service(observed.owner.name))}
    return _live(observed) | _live(observed, "bridge") | (model if decision.serving is None else model & clients)


def _awaited(observed: Observed, decision: Decision) -> bool:
    """Return whether gateways run steps still, and of the model that is wanted in their place nobody answers yet.

    One that has the model itself waits for no pod: it is started beside them, or takes their place one by one.
    """
    serving, gateway = decision.serving, decision.gateway
    if serving is None or (gateway is not None and gateway.engine) or not runs_steps(live_gateway(observed)):
        return False
    return not any(_answers(pod, serving.revision) for pod in observed.pods)


def _asked(observed: Observed, gateway: Gateway) -> set[str]:
    """Return the revisions whose pods the gateway's pods ask. Those that have the model ask none, but where it was cut before."""
    found = {revision for revision in map(_revision, gateway_pods(observed)) if revision}
    return {each for each in found if gateway.asks_pods or observed.child("Service", names.of_revision(each)) is not None}


def _middles(observed: Observed, gateway: Gateway) -> tuple[Between, ...]:
    """Return what gateways ask between: the one that is wanted, and pods of before, whose thresholds fit no other artifact."""
    if not finds_middle(gateway):
        return ()
    of = {_revision(pod) for pod in gateway_pods(observed)}
    former = (middle_of(each["spec"]) for each in observed.revisions if each["metadata"]["name"] in of)
    found = {each.digest: each for each in (gateway.middle, *former) if each is not None}
    return tuple(each for _, each in sorted(found.items()))


def _without(observed: Observed, live: frozenset[tuple[str, str]], settled: bool) -> Front:
    if not live:
        return NONE
    workloads = {place for place in live if place[0] in _WORKLOADS}
    if workloads and not settled:
        return Front(leaving="settling", kept=live, wait=LOOK_AGAIN_S)
    budget = {place for place in live if place[0] == "PodDisruptionBudget"}
    if workloads or any(True for _ in gateway_pods(observed)):
        return Front(leaving="ending", kept=live - workloads - budget)
    return NONE


def _live(observed: Observed, component: str = "gateway") -> frozenset[tuple[str, str]]:
    """Return our objects of the gateway, or of another component, that are there."""
    return frozenset(
        place
        for place, body in observed.children.items()
        if _component(body["metadata"].get("labels")) == component and observed.child(*place) is not None
    )


def _component(marks: Any) -> str:
    return str((marks or {}).get(labels.COMPONENT) or "")


def gateway_pods(observed: Observed) -> Iterator[Body]:
    """Yield the gateway's pods that have not ended."""
    for pod in observed.pods:
        if _component(pod["metadata"].get("labels")) == "gateway" and (pod.get("status") or {}).get("phase") not in _ENDED:
            yield pod


_ENDED = ("Succeeded", "Failed")


def _revision(pod: Body) -> str:
    return str((pod["metadata"].get("labels") or {}).get(labels.REVISION) or "")


def _client_service(observed: Observed) -> Body | None:
    return observed.child("Service", names.client_service(observed.owner.name))


def _chosen(observed: Observed) -> str:
    """Return whose pods the clients' Service chooses, by their component; empty where there is none."""
    service = _client_service(observed)
    return "" if service is None else _component((service.get("spec") or {}).get("selector")) or "serve"


def _moved(observed: Observed) -> str:
    service = _client_service(observed) or {"metadata": {}}
    return str((service["metadata"].get("annotations") or {}).get(labels.MOVED) or "")


def _left(moved: str, now: str) -> float:
    """Return the seconds for which clients may still ask the addresses of before."""
    if not moved:
        return 0.0
    try:
        return _KNOWN_S - (datetime.fromisoformat(now) - datetime.fromisoformat(moved)).total_seconds()
    except (TypeError, ValueError):
        return 0.0  # somebody else wrote it there


def _fitting(observed: Observed, decision: Decision, wanted: Gateway) -> Gateway:
    """Return the gateway for a revision that answers: while a new one starts, that of before.

    A confidence belongs to one revision. The gateway goes over to the new one's when the first pod of that is ready; until then
    the pods of before answer, and as they end they do so while the gateway's pods are replaced.
    """
    live = observed.child(wanted.edge.run.kind, names.gateway(observed.owner.name))
    if wanted.engine or wanted.steps or live is None or runs_steps(live):  # of steps none waits for the model's pods
        return wanted
    marks = live["spec"]["template"]["metadata"].get("labels") or {}
    of = str(marks.get(labels.REVISION) or "")
    if of == (wanted.revision if wanted.bound else ""):
        return wanted
    if any(_answers(pod, wanted.revision) for pod in observed.pods):
        return wanted
    if not of:  # it has no cascade yet
        return Gateway(wanted.spec)
    record = next((each for each in observed.revisions if each["metadata"]["name"] == of), None)
    return gateway_of(wanted.spec, record) if record is not None else wanted


def _answers(pod: Body, revision: str) -> bool:
    """Return whether it is a pod of the revision that is ready and stays."""
    if _component(pod["metadata"].get("labels")) != "serve" or _revision(pod) != revision:
        return False
    return is_ready(pod)


def settled(observed: Observed, slices: Iterable[Body]) -> bool:
    """Return whether the clients' Service chooses the model's pods, and no slice of it has one of the gateway's."""
    if _chosen(observed) == "gateway":
        return False
    pods = {pod["metadata"]["name"] for pod in gateway_pods(observed)}
    targets = ((each.get("targetRef") or {}).get("name") for body in slices for each in body.get("endpoints") or [])
    return pods.isdisjoint(targets)
