"""What is kept of a model on one machine: its plan, the revision that serves, the last verdict, conditions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from stillhouse.api.status import REASONS
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.entrypoints.local.lineage import lineage
from stillhouse.errors import SpecError
from stillhouse.planning.edge import CASCADE, MIDDLE
from stillhouse.planning.gating import GATE
from stillhouse.planning.plan import Plan
from stillhouse.planning.steps import PRECISION, STEPS

__all__ = [
    "HISTORY",
    "INTERRUPTED",
    "accepted",
    "gate_outcome",
    "held",
    "interrupted",
    "kept",
    "now",
    "objects_of",
    "pinned",
    "planned",
    "refused",
    "revision_of",
]

INTERRUPTED = "interrupted; the same command goes on from there"
HISTORY = 3
"""Former revisions that are kept, with everything that they were made from."""


def now() -> str:
    """Return the time, RFC 3339 in UTC."""
    return _written(datetime.now(UTC))


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _measured(gate: Receipt) -> str:
    """Return when the gate had its figures: later builds that find them in the store do not make them newer."""
    if not gate.started:
        return now()
    return _written(datetime.fromisoformat(gate.started) + timedelta(seconds=gate.seconds))


def planned(store: LocalStore, plan: Plan, file: str, pin: str | None = None) -> None:
    """Record that this plan is being carried out, and which revision `spec.serve.pin` holds meanwhile."""
    state = store.state(plan.name)
    steps = [
        {"id": step.id, "stage": step.stage, "pass": step.pass_name, "key": step.key, "parents": dict(step.parents)}
        for step in plan.steps
    ]
    if state.get("planHash") != plan.plan_hash:
        state["generation"] = int(state.get("generation", 0)) + 1
    state |= {
        "name": plan.name,
        "file": file,
        "requestHash": plan.request_hash,
        "planHash": plan.plan_hash,
        "steps": steps,
        "pinned": pin,
    }
    if (state.get("verdict") or {}).get("outcome") == "error":
        state["verdict"] = None  # it was about a build that gave none; this one may end in another way, or be killed
    condition(state, "Built", "False", "Building")
    store.write_state(plan.name, state)


def revision_of(plan: Plan, receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    """Return the revision that a finished plan made: a model, or steps before one, of which nothing is measured."""
    made = _steps(receipts[STEPS]) if STEPS in receipts else _model(plan, receipts)
    return {
        **made,
        "steps": [{"id": step.id, "key": step.key} for step in plan.steps],
        "planHash": plan.plan_hash,
        "fileHash": plan.file_hash,
        "lineage": lineage(plan, lambda step: receipts.get(step.id)),
    }


def _steps(packed: Receipt) -> dict[str, Any]:
    nothing: dict[str, Any] = {"index": None, "cascade": None, "figures": {}, "truncated": {}, "candidates": [], "serve": {}}
    about = {"digest": packed.artifact, "precision": PRECISION, "size": packed.size, "time": _measured(packed)}
    return {**about, **nothing}


def _model(plan: Plan, receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    gate = receipts["gate/gate"]
    index, cascade, cut = (receipts.get(f"gate/{each}") for each in ("index", "cascade", "cut"))
    chosen = next((each for each in gate.facts["candidates"] if each["precision"] == gate.facts["precision"]), None)
    return {
        "digest": gate.artifact,
        "precision": gate.facts["precision"],
        "size": gate.facts["size"],
        "index": index.artifact if index else None,
        "cascade": cascade.artifact if cascade else None,
        **({"middle": middle} if (middle := _middle(plan)) else {}),
        **({"cut": cut.artifact} if cut else {}),
        "figures": chosen["figures"] if chosen else {},
        "truncated": gate.facts["truncated"],
        "candidates": gate.facts["candidates"],
        "serve": gate.config["serve"],
        "time": _measured(gate),
    }


def _middle(plan: Plan) -> dict[str, str] | None:
    """Return the model between that a cascade is solved with: its name, and the digest of what was built of it."""
    steps = {step.id: step.config for step in plan.steps}
    if MIDDLE not in steps:
        return None
    return {"model": steps[CASCADE]["middle"], "digest": steps[MIDDLE]["digest"]}


def objects_of(revision: Mapping[str, Any]) -> list[str]:
    """Return the digests of what a revision consists of: the model, and if any its index, its cascade, its halves."""
    return [digest for digest in (revision["digest"], *(revision.get(each) for each in ("index", "cascade", "cut"))) if digest]


def accepted(store: LocalStore, plan: Plan, receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    """Record that the plan's revision is accepted; return it."""
    state = store.state(plan.name)
    revision = revision_of(plan, receipts)
    former = state.get("revision")
    known = [*([former] if former else []), *state.get("history", [])]
    # A revision holds what was measured, so a damaged one cannot be made again: nobody can go back to it.
    others = [each for each in known if each["digest"] != revision["digest"] and _whole(store, each)]
    state["history"] = others[:HISTORY]
    state["revision"] = revision
    gate = receipts.get("gate/gate")
    has_gate = gate is not None and bool(gate.config["metrics"] or gate.config["limits"])
    state["verdict"] = {"outcome": "passed", "message": "", "candidates": revision["candidates"], "time": revision["time"]}
    condition(state, "Built", "True", "Built")
    condition(state, "GatePassed", "True", "GatePassed" if has_gate else "NoGate")
    store.write_state(plan.name, state)
    return revision


def _whole(store: LocalStore, revision: Mapping[str, Any]) -> bool:
    """Return whether a revision and its index are there, as far as names and sizes tell."""
    return not any(store.objects.look(digest) for digest in objects_of(revision))


def held(store: LocalStore, name: str, digest: str) -> dict[str, Any]:
    """Return the revision that `spec.serve.pin` holds.

    Raises:
        SpecError: it is not one of the model's that are kept.
    """
    state = store.state(name)
    known = [each for each in (state.get("revision"), *state.get("history", [])) if each]
    for revision in known:
        if revision["digest"] == digest:
            return dict(revision)
    raise SpecError(
        "this revision is not kept here",
        field="spec.serve.pin",
        found=digest,
        allowed=", ".join(each["digest"] for each in known) or f"none: {name} has not been built yet",
        fix=f"still status {name} -o json lists them; or leave pin out",
    )


def pinned(store: LocalStore, name: str, digest: str) -> None:
    """Record that `spec.serve.pin` put this revision in place, whatever was built since."""
    store.write_state(name, {**store.state(name), "pinned": digest})


def interrupted(store: LocalStore, name: str) -> None:
    """Record that the build was stopped; the same command goes on from there."""
    state = store.state(name)
    condition(state, "Built", "False", "BuildFailed", INTERRUPTED)
    store.write_state(name, state)


def refused(store: LocalStore, name: str, reason: str, message: str, candidates: list[dict[str, Any]]) -> None:
    """Record why the last plan did not give a revision; the former one stays."""
    state = store.state(name)
    outcome = {"GateFailed": "failed", "GateInconclusive": "inconclusive"}.get(reason, "error")
    state["verdict"] = {"outcome": outcome, "message": message, "candidates": candidates, "time": now()}
    if outcome == "error":
        condition(state, "Built", "False", reason if reason in REASONS else "BuildFailed", message)
    else:
        condition(state, "Built", "True", "Built")
        condition(state, "GatePassed", "False", reason, message)
    store.write_state(name, state)


def gate_outcome(state: Mapping[str, Any], key: str) -> str:
    """Return `failed` or `inconclusive` where the last build ended at the gate of this key, else "".

    A build that goes on, was stopped or met another error has `Built` False: its verdict may be an earlier build's.
    """
    stands = {each["type"]: each["status"] for each in state.get("conditions", [])}
    ended = (stands.get("Built"), stands.get("GatePassed")) == ("True", "False")
    gate = next((step["key"] for step in state.get("steps", []) if step["id"] == GATE), None)
    return str((state.get("verdict") or {}).get("outcome", "")) if ended and key == gate else ""


def condition(state: dict[str, Any], kind: str, status: str, reason: str, message: str = "") -> None:
    """Set one condition; the transition time changes only with the status."""
    conditions: list[dict[str, Any]] = state.setdefault("conditions", [])
    found = next((each for each in conditions if each["type"] == kind), {})
    changed = found.get("status") != status
    entry = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message or REASONS.get(reason, ""),
        "observedGeneration": int(state.get("generation", 0)),
        "lastTransitionTime": now() if changed else found["lastTransitionTime"],
    }
    if found:
        found.update(entry)
    else:
        conditions.append(entry)


def kept(store: LocalStore, without: Collection[str] = ()) -> tuple[set[str], set[str]]:
    """Return (step keys, object digests) that some model's plan, revision or history refers to, but for some models."""
    keys: set[str] = set()
    digests: set[str] = set()
    for name in set(store.model_names()) - set(without):
        state = store.state(name)
        keys.update(step["key"] for step in state.get("steps", []))
        for revision in (state.get("revision"), *state.get("history", [])):
            if revision:
                keys.update(step["key"] for step in revision["steps"])
                digests.update(objects_of(revision))
    return keys, digests
