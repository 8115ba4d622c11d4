"""The status, derived from what is observed and never from what it said before (but for transition times). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.api.status import REASONS
from stillhouse.planning.runtimes import runtime_of
from stillhouse.reconcile.ahead import Ahead, agreement_verdict, gateway_verdict
from stillhouse.reconcile.bridged import Bridged, bridge_verdict
from stillhouse.reconcile.decide import Decision, Verdict
from stillhouse.reconcile.observed import Body, Observed
from stillhouse.reconcile.trouble import trouble
from stillhouse.resources import labels, names
from stillhouse.resources.autoscaler import by_queue
from stillhouse.resources.metrics_api import Figures
from stillhouse.resources.services import GRPC_PORT
from stillhouse.sizes import size

__all__ = ["Ahead", "status"]

_KEPT = 3


def status(
    observed: Observed,
    decision: Decision,
    deployment: Body | None,
    *,
    figures: Figures,
    progress: str,
    failed: Verdict | None,
    stuck: Verdict | None = None,
    apart: Verdict | None = None,
    ahead: Ahead | None = None,
    bridged: Bridged | None = None,
    now: str,
) -> dict[str, Any]:
    """Return the whole status.

    `deployment` is the Deployment as it is now, `figures` what mode `hpa` goes by, `progress` what a build does, `failed` what
    kept this reconcile from doing its work (a stranger's object, a quota), `stuck` what a build waits for that does not come by
    itself, `apart` why pods wait for a volume, `ahead` what stands before the pods, `bridged` the
    bridge to a broker, `now` RFC 3339: the time of conditions that changed.
    """
    serving = _Serving(decision, deployment, observed, apart)
    gateway = gateway_verdict(ahead, observed) if ahead is not None else None
    named = [
        ("Accepted", *_accepted(decision)),
        ("Built", *_built(decision, progress, stuck)),
        ("GatePassed", *_gate(decision)),
        ("Available", *_available(serving)),
        ("Ready", *_ready(decision, serving, gateway, failed, stuck)),
    ]
    ready = named[-1][1] == "True"
    stalled = None if ready else _stalled(decision, failed, serving)
    if stalled:
        named.append(("Stalled", "True", stalled))
    elif not ready:
        named.append(("Reconciling", "True", named[-1][2]))
    if decision.serving is not None:
        named.append(("Scaling", *_scaling(decision, figures)))
    if gateway is not None:
        named.append(("GatewayAvailable", *gateway))
    agreement = agreement_verdict(ahead, observed) if ahead is not None else None
    if agreement is not None:
        named.append(("AgreementHolds", *agreement))
    bridge = bridge_verdict(bridged, observed) if bridged is not None else None
    if bridge is not None:
        named.append(("BridgeAvailable", *bridge))
    before = {each["type"]: each for each in (observed.model.get("status") or {}).get("conditions") or []}
    conditions = [_condition(kind, value, verdict, observed.generation, before.get(kind), now) for kind, value, verdict in named]
    owner = observed.owner
    found: dict[str, Any] = {
        "observedGeneration": observed.generation,
        "conditions": conditions,
        "replicas": serving.replicas,
        "readyReplicas": serving.ready,
        "selector": labels.query(labels.selector(owner.name, names.VARIANT)),
        "progress": progress[:256],
        **({"pin": decision.pin.removeprefix("sha256:")[:12]} if decision.pin else {}),
    }
    if decision.serves is not None:
        found["revision"] = _revision(decision.serves)
        local = ahead is not None and ahead.local
        service = names.local_service(owner.name) if local else names.client_service(owner.name)
        found["endpoint"] = f"{service}.{owner.namespace}.svc:{GRPC_PORT}"
    if ahead is not None and ahead.front.gateway is not None:
        found["gateway"] = ahead.told
    tried = ((decision.wanted or decision.serves or {}).get("spec") or {}).get("candidates") or []
    if tried:
        found["variants"] = [_candidate(each) for each in tried][:32]
    return found


class _Serving:
    """What the Deployment says. A status of an older generation of it says nothing about a newer template."""

    def __init__(self, decision: Decision, deployment: Body | None, observed: Observed, apart: Verdict | None) -> None:
        self.exists = decision.serving is not None and deployment is not None
        said = (deployment or {}).get("status") or {}
        self.replicas = int(said.get("replicas") or 0)
        self.ready = int(said.get("readyReplicas") or 0)
        self.available = int(said.get("availableReplicas") or 0)
        self.updated = int(said.get("updatedReplicas") or 0)
        self.wanted = int(((deployment or {}).get("spec") or {}).get("replicas", 1))
        self.current = _current(deployment or {}) or _only_scaled(observed, decision, deployment or {})
        progressing: Body = next((each for each in said.get("conditions") or [] if each.get("type") == "Progressing"), {})
        self.given_up = self.current and progressing.get("reason") == "ProgressDeadlineExceeded"
        self.trouble: Verdict | None = None
        scaling = decision.scaling
        self.least = 1 if scaling.mode == "external" else scaling.least
        if self.exists and deployment is not None and decision.serving is not None and not self.full:
            chosen = {labels.COMPONENT: "serve", labels.REVISION: decision.serving.revision}
            self.trouble = trouble(deployment, observed.pods, chosen) or apart
            if self.trouble is None and self.given_up:
                self.trouble = Verdict("RollingOut", str(progressing.get("message", "")))
        self.rolled_out = self.current and progressing.get("reason") == "NewReplicaSetAvailable"
        kind = (((deployment or {}).get("spec") or {}).get("strategy") or {}).get("type")
        self.recreating = self.exists and kind == "Recreate" and not self.rolled_out and not self.trouble

    @property
    def full(self) -> bool:
        """Return whether every replica is of the newest template and answers."""
        return self.exists and self.current and self.updated == self.available == self.replicas == self.wanted > 0

    @property
    def complete(self) -> bool:
        """Return whether this generation is served as it asks.

        The rollout of the newest template has ended, and as many replicas as there must be at least answer. Once it has, a
        change of their number is none of the revision: replicas that start, end or wait for a node make it no less ready.
        """
        enough = self.exists and self.current and self.updated == self.replicas and self.available >= self.least
        return enough and (self.full or (self.rolled_out and (self.trouble is None or self.homeless)))

    @property
    def homeless(self) -> bool:
        """Return whether the trouble is that no node takes a pod: a bigger cluster may be on its way."""
        return self.trouble is not None and self.trouble.reason == "Unschedulable"


def _current(deployment: Body) -> bool:
    """Return whether a Deployment's status is of its newest generation."""
    generation = (deployment.get("metadata") or {}).get("generation")
    return int((deployment.get("status") or {}).get("observedGeneration") or 0) >= int(generation or 0)


def _only_scaled(observed: Observed, decision: Decision, deployment: Body) -> bool:
    """Return whether a status that is behind speaks of the newest template still: a new number alone makes a new generation.

    So it is where our own write has left the template as it was; and where this generation of the model was ready already
    with this revision, since what an autoscaler writes changes no template.
    """
    if not deployment:
        return False
    former = observed.child("Deployment", deployment["metadata"]["name"])
    if former is not None and _current(former) and former["spec"].get("template") == deployment["spec"].get("template"):
        return True
    if former is not None and former["spec"].get("template") != deployment["spec"].get("template"):
        return False  # our own write, just now
    before: Body = observed.model.get("status") or {}
    ready: Body = next((each for each in before.get("conditions") or [] if each["type"] == "Ready"), {})
    same = (before.get("revision") or {}).get("name") == ((decision.serves or {}).get("metadata") or {}).get("name")
    return same and ready.get("status") == "True" and ready.get("observedGeneration") == observed.generation


def _accepted(decision: Decision) -> tuple[str, Verdict]:
    if decision.refused:
        return "False", decision.refused
    if decision.pin_missing:
        return "False", decision.pin_missing
    return "True", Verdict("Accepted")


def _built(decision: Decision, progress: str, stuck: Verdict | None) -> tuple[str, Verdict]:
    if decision.refused:
        return "False", decision.refused
    if decision.wanted is None:
        return "False", stuck or Verdict("Building", progress)
    spec = decision.wanted["spec"]
    if spec["outcome"] == "Accepted" or spec["reason"] in ("GateFailed", "GateInconclusive"):
        return "True", Verdict("Built")
    return "False", Verdict(spec["reason"], spec.get("message", ""))


def _gate(decision: Decision) -> tuple[str, Verdict]:
    if decision.refused:
        return "Unknown", decision.refused
    if decision.wanted is None:
        return "Unknown", Verdict("Building")
    spec = decision.wanted["spec"]
    if spec["outcome"] == "Accepted":
        return "True", Verdict(spec["reason"], spec.get("message", ""))
    reached = spec["reason"] in ("GateFailed", "GateInconclusive")
    return ("False" if reached else "Unknown"), Verdict(spec["reason"], spec.get("message", ""))


def _available(serving: _Serving) -> tuple[str, Verdict]:
    if serving.exists and serving.available > 0:
        lacks = f"; {serving.trouble.message}" if serving.trouble and serving.homeless else ""
        return "True", Verdict("Serving", f"{serving.available} of {serving.wanted} replicas answer{lacks}")
    if serving.recreating:
        return "False", Verdict("RollingOut", "serve.strategy is Recreate: the former pods end before the new ones start")
    return "False", Verdict("ServerDown", serving.trouble.message if serving.trouble else "")


def _ready(
    decision: Decision,
    serving: _Serving,
    gateway: tuple[str, Verdict] | None,
    failed: Verdict | None,
    stuck: Verdict | None,
) -> tuple[str, Verdict]:
    """Say whether this generation's revision serves fully: the first reason that it does not is told."""
    if failed:
        return "False", failed
    if decision.refused:
        return "False", decision.refused
    if decision.pin_missing:
        return "False", decision.pin_missing
    if decision.wanted is None and not decision.held:
        return "False", stuck or Verdict("Building")
    spec = ((decision.serves if decision.held else decision.wanted) or {})["spec"]
    if spec["outcome"] != "Accepted":
        return "False", Verdict(spec["reason"], spec.get("message", ""))
    if serving.complete and gateway is not None and gateway[0] != "True" and gateway[1].reason != "GatewayLeaving":
        return "False", gateway[1]
    if serving.complete:
        return "True", Verdict("Pinned", f"serve.pin holds {spec['digest']}") if decision.held else Verdict("Serving")
    if serving.trouble:
        return "False", serving.trouble
    told = f"{serving.updated} of {max(serving.wanted, serving.least)} replicas are new, {serving.available} answer"
    return "False", Verdict("RollingOut", told)


def _scaling(decision: Decision, figures: Figures) -> tuple[str, Verdict]:
    """Say whether an autoscaler of ours decides the number of replicas, and by what."""
    scaling = decision.scaling
    if scaling.mode == "external":
        return "False", Verdict("ScaledExternally", f"{scaling.replicas} replicas are wanted; whoever writes /scale decides")
    if scaling.least == scaling.most:
        return "False", Verdict("FixedReplicas", f"minReplicas and maxReplicas are both {scaling.least}")
    if not by_queue(scaling):
        return "True", Verdict("ScalesByCpu", "mode cpu")
    if figures.kind == "cpu":
        return "True", Verdict("ScalesByCpu", figures.why)
    return "True", Verdict("ScalesByKeda" if figures.kind == "keda" else "ScalesByQueue")


def _stalled(decision: Decision, failed: Verdict | None, serving: _Serving) -> Verdict | None:
    """Return why nothing goes on until somebody acts; None while something does."""
    if failed:
        return failed if failed.reason == "NotOwned" else None
    if decision.refused or decision.pin_missing:
        return decision.refused or decision.pin_missing
    if decision.wanted is not None and not decision.held and decision.wanted["spec"]["outcome"] == "Failed":
        return Verdict(decision.wanted["spec"]["reason"], decision.wanted["spec"].get("message", ""))
    return serving.trouble if (decision.held or decision.wanted is not None) and serving.given_up else None


def _condition(
    kind: str, value: str, verdict: Verdict, generation: int, before: Mapping[str, Any] | None, now: str
) -> dict[str, Any]:
    kept = before is not None and before.get("status") == value
    return {
        "type": kind,
        "status": value,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and kept else now,
        "reason": verdict.reason,
        "message": (verdict.message or REASONS.get(verdict.reason, ""))[:32768],
    }


def _revision(revision: Body) -> dict[str, Any]:
    spec = revision["spec"]
    return {
        "name": revision["metadata"]["name"],
        "digest": spec.get("digest", ""),
        "precision": spec.get("precision", ""),
        "size": size(int(spec.get("size", 0))),
        "metrics": spec.get("metrics", []),
        "runtime": runtime_of(spec.get("serve") or {}),
        **{part: spec[part] for part in ("requestHash", "planHash", "lineage") if spec.get(part)},
    }


def _candidate(candidate: Mapping[str, Any]) -> dict[str, Any]:
    figures = [{"name": "gate", "value": candidate.get("outcome", "")}]
    if candidate.get("reason"):
        figures.append({"name": "why", "value": str(candidate["reason"])[:256]})
    return {
        "name": candidate.get("precision", ""),
        "digest": candidate.get("digest", ""),
        "precision": candidate.get("precision", ""),
        "size": size(int(candidate.get("size", 0))),
        "metrics": figures,
    }
