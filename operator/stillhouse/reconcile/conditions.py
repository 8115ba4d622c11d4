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
from stillhouse.reconcile.stand import Standing, gateway_standing, model_standing
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
    held = ahead is not None and ahead.front.held
    if decision.serving is None and (decision.steps or held):
        serving = answering = gateway_standing(ahead.workload if ahead is not None else None, observed)
        if ahead is not None and not ahead.front.serves and deployment is not None:  # the model of before answers still
            answering = gateway_standing(deployment, observed)
    else:
        serving = model_standing(decision, deployment, observed, apart)
        answering = gateway_standing(ahead.workload, observed) if ahead is not None and held else serving
    gateway = gateway_verdict(ahead, observed) if ahead is not None else None
    named = [
        ("Accepted", *_accepted(decision)),
        ("Built", *_built(decision, progress, stuck)),
        ("GatePassed", *_gate(decision)),
        ("Available", *_available(answering)),
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
    if ahead is not None and (told := ahead.told) is not None:
        found["gateway"] = told
    tried = ((decision.wanted or decision.serves or {}).get("spec") or {}).get("candidates") or []
    if tried:
        found["variants"] = [_candidate(each) for each in tried][:32]
    return found


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


def _available(serving: Standing) -> tuple[str, Verdict]:
    if serving.exists and serving.available > 0:
        lacks = f"; {serving.trouble.message}" if serving.trouble and serving.homeless else ""
        return "True", Verdict("Serving", f"{serving.available} of {serving.wanted} replicas answer{lacks}")
    if serving.recreating:
        return "False", Verdict("RollingOut", "serve.strategy is Recreate: the former pods end before the new ones start")
    return "False", Verdict("ServerDown", serving.trouble.message if serving.trouble else "")


def _ready(
    decision: Decision,
    serving: Standing,
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


def _stalled(decision: Decision, failed: Verdict | None, serving: Standing) -> Verdict | None:
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
