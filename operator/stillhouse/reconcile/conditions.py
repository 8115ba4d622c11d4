"""The status, derived from what is observed and never from what it said before (but for transition times). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.api.status import REASONS
from stillhouse.planning.runtimes import runtime_of
from stillhouse.reconcile.decide import Decision, Verdict
from stillhouse.reconcile.observed import Body, Observed
from stillhouse.reconcile.trouble import trouble
from stillhouse.resources import labels, names
from stillhouse.resources.autoscaler import by_queue
from stillhouse.resources.metrics_api import Figures
from stillhouse.resources.services import GRPC_PORT
from stillhouse.sizes import size

__all__ = ["status"]

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
    now: str,
) -> dict[str, Any]:
    """Return the whole status.

    `deployment` is the Deployment as it is now, `figures` what mode `hpa` goes by, `progress` what a build does, `failed` what
    kept this reconcile from doing its work (a stranger's object, a quota), `stuck` what a build waits for that does not come by
    itself, `apart` why pods wait for a volume, `now` RFC 3339: the time of conditions that changed.
    """
    serving = _Serving(decision, deployment, observed.pods, apart)
    named = [
        ("Accepted", *_accepted(decision)),
        ("Built", *_built(decision, progress, stuck)),
        ("GatePassed", *_gate(decision)),
        ("Available", *_available(serving)),
        ("Ready", *_ready(decision, serving, failed, stuck)),
    ]
    ready = named[-1][1] == "True"
    stalled = None if ready else _stalled(decision, failed, serving)
    if stalled:
        named.append(("Stalled", "True", stalled))
    elif not ready:
        named.append(("Reconciling", "True", named[-1][2]))
    if decision.serving is not None:
        named.append(("Scaling", *_scaling(decision, figures)))
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
        found["endpoint"] = f"{names.client_service(owner.name)}.{owner.namespace}.svc:{GRPC_PORT}"
    tried = ((decision.wanted or decision.serves or {}).get("spec") or {}).get("candidates") or []
    if tried:
        found["variants"] = [_candidate(each) for each in tried][:32]
    return found


class _Serving:
    """What the Deployment says. A status of an older generation of it says nothing about the newest."""

    def __init__(self, decision: Decision, deployment: Body | None, pods: tuple[Body, ...], apart: Verdict | None) -> None:
        self.exists = decision.serving is not None and deployment is not None
        said = (deployment or {}).get("status") or {}
        metadata = (deployment or {}).get("metadata") or {}
        self.replicas = int(said.get("replicas") or 0)
        self.ready = int(said.get("readyReplicas") or 0)
        self.available = int(said.get("availableReplicas") or 0)
        self.updated = int(said.get("updatedReplicas") or 0)
        self.wanted = int(((deployment or {}).get("spec") or {}).get("replicas", 1))
        self.current = int(said.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
        progressing: Body = next((each for each in said.get("conditions") or [] if each.get("type") == "Progressing"), {})
        self.given_up = self.current and progressing.get("reason") == "ProgressDeadlineExceeded"
        self.trouble: Verdict | None = None
        if self.exists and deployment is not None and decision.serving is not None and not self.complete:
            self.trouble = trouble(deployment, pods, decision.serving.revision) or apart
            if self.trouble is None and self.given_up:
                self.trouble = Verdict("RollingOut", str(progressing.get("message", "")))
        rolled_out = self.current and progressing.get("reason") == "NewReplicaSetAvailable"
        kind = (((deployment or {}).get("spec") or {}).get("strategy") or {}).get("type")
        self.recreating = self.exists and kind == "Recreate" and not rolled_out and not self.trouble

    @property
    def complete(self) -> bool:
        """Return whether every replica is of the newest template and answers."""
        full = self.updated == self.available == self.replicas == self.wanted
        return self.exists and self.current and full and self.wanted > 0


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
        return "True", Verdict("Serving", f"{serving.available} of {serving.wanted} replicas answer")
    if serving.recreating:
        return "False", Verdict("RollingOut", "serve.strategy is Recreate: the former pods end before the new ones start")
    return "False", Verdict("ServerDown", serving.trouble.message if serving.trouble else "")


def _ready(decision: Decision, serving: _Serving, failed: Verdict | None, stuck: Verdict | None) -> tuple[str, Verdict]:
    """Say whether this generation's revision serves fully: the first reason that it does not is told."""
    if failed:
        return "False", failed
    if decision.refused:
        return "False", decision.refused
    if decision.pin_missing:
        return "False", decision.pin_missing
    if decision.pinned and decision.serves is not decision.wanted:
        return "False", Verdict("Pinned", f"serve.pin holds {(decision.serves or {})['spec']['digest']}")
    if decision.wanted is None:
        return "False", stuck or Verdict("Building")
    spec = decision.wanted["spec"]
    if spec["outcome"] != "Accepted":
        return "False", Verdict(spec["reason"], spec.get("message", ""))
    if serving.complete:
        return "True", Verdict("Serving")
    if serving.trouble:
        return "False", serving.trouble
    told = f"{serving.updated} of {serving.wanted} replicas are new, {serving.available} answer"
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
    if decision.wanted is not None and decision.wanted["spec"]["outcome"] == "Failed":
        return Verdict(decision.wanted["spec"]["reason"], decision.wanted["spec"].get("message", ""))
    if decision.pinned and decision.serves is not decision.wanted:
        return Verdict("Pinned")
    return serving.trouble if decision.wanted is not None and serving.given_up else None


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
