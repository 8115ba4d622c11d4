"""A plan, explained: what runs, what is cached, why, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from stillhouse.clients.store.receipts import Receipt
from stillhouse.entrypoints.local.state import gate_outcome
from stillhouse.entrypoints.local.workspace import Workspace
from stillhouse.passes.attempts import carried
from stillhouse.passes.evaluate.speed import too_noisy
from stillhouse.planning.estimate import estimate, start_of_torch, work_of
from stillhouse.planning.gating import GATE
from stillhouse.planning.plan import Step

__all__ = ["describe"]


def _former(work: Workspace) -> dict[str, Any]:
    """Return step id → what the state knows of the step in the last plan."""
    return {step["id"]: step for step in work.store.state(work.name).get("steps", [])}


def _rates(work: Workspace, former: dict[str, Any]) -> dict[str, float]:
    """Return pass → seconds per unit of work, from the receipts of the last plan on this machine."""
    ran: dict[str, Receipt] = {}
    for step in work.plan.steps:
        known = former.get(step.id)
        receipt = work.store.receipt(known["key"]) if known else None
        if receipt is not None and (receipt.pass_name, receipt.version) == (step.pass_name, step.version):
            ran[step.id] = receipt
    # Whichever ran first imported torch, which a rate must not hold: it would be multiplied with the next plan's work.
    then = replace(work.plan, steps=tuple(_as_it_ran(step, ran.get(step.id)) for step in work.plan.steps))
    imports = start_of_torch(then.step(step_id) for step_id in sorted(ran, key=lambda step_id: ran[step_id].started))
    found: dict[str, float] = {}
    for step_id, receipt in ran.items():
        step = then.step(step_id)
        units, _ = work_of(step, then, work.env)
        start = imports.get(step_id, 0.0)
        seconds = receipt.seconds - start
        if units > 0 and seconds > start / 2:  # less is what the import's own time varies by
            found[step.pass_name] = seconds / units
    return found


def _as_it_ran(step: Step, receipt: Receipt | None) -> Step:
    """Return a step with what it was asked for when it ran: its seconds were spent on that, not on what is asked for now."""
    if receipt is None:
        return step
    rows = receipt.facts.get("rows") if step.pass_name == "import-data" else None
    return replace(step, config={**receipt.config, **({"maxRows": rows} if rows else {})})


def _accepted(work: Workspace, step: Step) -> Receipt | None:
    """Return the receipt of a step as the accepted revision had it: the last plan's may have failed, and left none."""
    revision = work.store.state(work.name).get("revision") or {}
    key = next((each["key"] for each in revision.get("steps", []) if each["id"] == step.id), None)
    return work.store.receipt(key) if key else None


def _changed(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Yield the names of what differs between two configurations: `serve.maxBatchSize`, not all of `serve`."""
    if before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}):
            yield from _changed(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    else:
        yield name


def _refused(work: Workspace, step: Step) -> str:
    """Say how the last build ended at this step, where that was a gate that nothing passed; "" else."""
    if step.id != GATE:
        return ""
    kept = work.store.state(work.name)
    outcome = gate_outcome(kept, step.key)
    if outcome == "failed":
        return "failed at the last build; the same rows and limits give the same answer"
    if outcome == "inconclusive":
        noisy = too_noisy(kept["verdict"]["candidates"])
        again = "speed is measured again" if noisy else "the same rows and limits give the same answer"
        return f"could not tell at the last build; {again}"
    return ""


def _why(work: Workspace, step: Step, former: dict[str, Any], states: dict[str, str]) -> str:
    known = former.get(step.id)
    if refused := _refused(work, step):  # before what it left: it ended, with figures that are kept
        return refused
    if carried(work.store.root / "work" / step.key):
        return "was interrupted; goes on where it was"
    if known is None:
        return "new"
    if known["key"] == step.key:
        return "has not run yet" if work.store.receipt(step.key) is None else "its result is damaged"
    if any(states.get(parent) == "run" for parent in step.parents.values()):
        changed = [parent for parent in step.parents.values() if states.get(parent) == "run"]
        return f"{changed[0].partition('/')[2]} is new"
    receipt = work.store.receipt(known["key"]) or _accepted(work, step)
    if receipt is None:
        return "changed since the last plan, which did not get here"
    fields = list(_changed(receipt.config, step.config))
    if "digest" in fields:
        return "the source has changed"
    return f"changed: {', '.join(fields)}" if fields else "other packages, hardware, or a rebuild was asked for"


def describe(work: Workspace) -> dict[str, Any]:
    """Return the plan as plain data: every step with state (`cached`, `run`, `not needed`), reason and estimate.

    What is cached is told by names and sizes; contents are verified by whoever uses them (the runner, before a server
    starts), so a file that was changed at the same size is found and built again there.
    """
    former = _former(work)
    whole = {step.id: receipt for step in work.plan.steps if (receipt := work.store.done(step.key, contents=False)) is not None}
    wanted = {step.id for step in work.plan.missing(lambda step: step.id in whole)}
    states = {step.id: "run" if step.id in wanted else "cached" if step.id in whole else "not needed" for step in work.plan.steps}
    rates = _rates(work, former)
    imports = start_of_torch(step for step in work.plan.steps if step.id in wanted)
    steps, total = [], {"steps": 0, "seconds": 0.0, "memory": 0, "disk": 0, "guessed": False}
    for step in work.plan.steps:
        cost = estimate(step, work.plan, work.env, rates)
        entry: dict[str, Any] = {
            "id": step.id,
            "stage": step.stage,
            "pass": step.pass_name,
            "key": step.key,
            "measures": step.measures,
            "state": states[step.id],
            "why": "",
        }
        if states[step.id] == "run":
            seconds = cost.seconds + imports.get(step.id, 0.0)
            entry |= {"why": _why(work, step, former, states), "seconds": seconds, "memory": cost.memory, "disk": cost.disk}
            total = {
                "steps": total["steps"] + 1,
                "seconds": total["seconds"] + seconds,
                "memory": max(total["memory"], cost.memory),
                "disk": total["disk"] + cost.disk,
                "guessed": total["guessed"] or cost.guessed,
            }
        elif states[step.id] == "cached":
            entry |= {"why": f"made {whole[step.id].started[:16].replace('T', ' ')}", "artifact": whole[step.id].artifact}
        steps.append(entry)
    return {
        "name": work.name,
        "requestHash": work.plan.request_hash,
        "planHash": work.plan.plan_hash,
        "steps": steps,
        "total": total,
        "notes": work.notes,
    }
