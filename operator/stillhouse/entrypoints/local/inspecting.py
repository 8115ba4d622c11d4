"""What `still status` shows: read from the store and from the servers themselves, never from what we said before."""

from __future__ import annotations

from typing import Any

from stillhouse.api.status import REASONS
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge import record
from stillhouse.entrypoints.local import servers
from stillhouse.entrypoints.local.state import INTERRUPTED, gate_outcome
from stillhouse.entrypoints.local.text import size
from stillhouse.errors import StillhouseError, UsageError
from stillhouse.planning.steps import PRECISION
from stillhouse.settings import load_settings

__all__ = ["inspect"]

DAMAGED = "what is known of it cannot be read; run still up FILE again (finished steps are found again)"
PICTURES = ("candidates.svg", "curve.svg", "report.svg", "search.svg")
"""What passes draw: asked for by name, because a folder that is listed costs more."""
SHOWN = ("digest", "precision", "size", "index", "figures", "truncated", "time")


def inspect(name: str | None = None) -> list[dict[str, Any]]:
    """Return every model (or one) as plain data. Reads only the models' own receipts, however many the store has.

    Raises:
        UsageError: there is no model of that name.
    """
    store = LocalStore(load_settings().home)
    names = store.model_names()
    if name is not None and name not in names:
        raise UsageError(
            "there is no such model on this machine",
            field="NAME",
            found=name,
            allowed=", ".join(names) or "none yet",
            fix=f"still up FILE; where it is in a cluster: still status {name} --context CONTEXT -n NAMESPACE",
        )
    return [_model(store, each) for each in ([name] if name else names)]


def _model(store: LocalStore, name: str) -> dict[str, Any]:
    state = store.state(name)
    steps = []
    for step in state.get("steps", []):
        receipt = store.receipt(step["key"])
        steps.append(
            {
                "id": step["id"],
                "stage": step["stage"],
                "key": step["key"],
                "artifact": receipt.artifact if receipt else "",
                "outcome": "" if receipt else gate_outcome(state, step["key"]),
                "size": receipt.size if receipt else 0,
                "seconds": receipt.seconds if receipt else 0.0,
                "facts": dict(receipt.facts) if receipt else {},
                "pictures": _pictures(store, receipt.artifact) if receipt else [],
            }
        )
    running = servers.find(store, name)
    revision = state.get("revision")
    server = _server(running, name) if running else None
    verdict = state.get("verdict")
    builder = store.builder(name)
    runs = record.find(store, name)
    gateway = {"address": runs.listen.get("grpc", ""), "pid": runs.pid} if runs is not None else None
    alone = bool(revision and revision["precision"] == PRECISION)  # steps before another model: no server is theirs
    conditions = _conditions(state, server, revision, builder) if not alone else _of_steps(state, gateway, builder)
    answers = ("serving" if server and server["health"] == "ready" else "not serving") if not alone else _ran(gateway)
    damaged = not state and store.state_damaged(name)
    return {
        "name": name,
        "file": state.get("file", ""),
        "summary": DAMAGED if damaged else _summary(revision, answers, _last(conditions, verdict), builder),
        "requestHash": state.get("requestHash", ""),
        "planHash": state.get("planHash", ""),
        "server": server,
        "gateway": gateway,
        "revision": revision and {key: revision.get(key) for key in SHOWN},
        "verdict": verdict,
        "steps": steps,
        "conditions": conditions,
        "history": [each["digest"] for each in state.get("history", [])],
    }


def _pictures(store: LocalStore, artifact: str) -> list[str]:
    """Return where a step's pictures lie; none while they are compressed."""
    folder = store.objects.path(artifact)
    return [str(folder / name) for name in PICTURES if (folder / name).is_file()]


def _last(conditions: list[dict[str, Any]], verdict: Any) -> str:
    """Return how the last build ended where it gave no revision, else "". A verdict may be an earlier build's."""
    built = next((entry for entry in conditions if entry["type"] == "Built"), None)
    if built is not None and built["status"] == "False":
        return "interrupted" if built["message"] == INTERRUPTED else "error"
    return str(verdict["outcome"]) if verdict and verdict["outcome"] != "passed" else ""


def _ran(gateway: Any) -> str:
    return "run by a gateway" if gateway else "run by no gateway here"


def _summary(revision: Any, answers: str, last: str, builder: str) -> str:
    parts = []
    if revision:
        parts.append(f"{revision['precision']} {size(revision['size'])}")
    parts.append(answers)
    if builder:
        parts.append(f"process {builder} builds or starts it")
    elif last:
        parts.append(f"last build: {last}")
    return ", ".join(parts)


def _server(running: servers.Running, name: str) -> dict[str, Any]:
    from stillhouse.clients.triton import TritonClient

    handle = running.handle
    health, details = "ready", []
    try:
        handle.check()  # Triton 2.51 says that it is ready, also when its backend has died
        with TritonClient(handle.address, timeout_s=2.0, retries=0) as client:
            health = "ready" if client.ready(name) else "not ready"
            counted = client.statistics(name)
        mean = counted.inferences / counted.executions if counted.executions else 0.0
        details.append(f"{counted.requests_ok} answered, {counted.requests_failed} failed, mean batch {mean:.2f}")
    except StillhouseError as error:
        if health == "ready":
            health = "does not answer"
        details.append(f"{error.problem.message}; start it again: still up FILE")
    details.append(f"serves {running.revision[7:19]} ({running.precision})")
    if running.supervised:
        details.append(f"stops with process {running.supervisor} (`still up`)")
    elif running.supervisor:
        details.append(f"its `still up` (process {running.supervisor}) has gone; stop it with: still down {name}")
    return {
        "address": handle.address,
        "pid": handle.pid,
        "health": health,
        "revision": running.revision,
        "precision": running.precision,
        "started": running.started,
        "supervisor": running.supervisor,
        "log": handle.log,
        "details": details,
    }


def _conditions(state: dict[str, Any], server: Any, revision: Any, builder: str) -> list[dict[str, Any]]:
    """Return the kept conditions with Available and Ready derived from what is observed now."""
    found = _built(state, builder)
    serves = bool(server and server["health"] == "ready")
    generation = int(state.get("generation", 0))
    current = bool(revision and revision["planHash"] == state.get("planHash"))
    newest = serves and current and server["revision"] == revision["digest"]
    held = serves and not newest and server["revision"] == state.get("pinned")  # it was asked for, as the newest is else
    ready = newest or held
    available = ("Serving", "") if serves else ("ServerDown", REASONS["ServerDown"])
    failed = next(((entry["reason"], "") for entry in reversed(found) if entry["status"] == "False"), None)
    behind = _behind(state, server, revision) if serves and not newest else available
    why = behind if ready else failed or behind
    return [*found, _condition("Available", serves, available, generation), _condition("Ready", ready, why, generation)]


def _of_steps(state: dict[str, Any], gateway: Any, builder: str) -> list[dict[str, Any]]:
    """Return the same of steps before another model: a gateway of this machine runs them, or none does."""
    found, generation = _built(state, builder), int(state.get("generation", 0))
    down = f"steps before another model have no server; a gateway runs them: still edge {state.get('file') or 'FILE'}"
    available = ("GatewayServes", f"at {gateway['address']}") if gateway else ("GatewayDown", down)
    failed = next(((entry["reason"], "") for entry in reversed(found) if entry["status"] == "False"), None)
    ready = bool(gateway) and failed is None
    return [
        *found,
        _condition("Available", bool(gateway), available, generation),
        _condition("Ready", ready, failed or available, generation),
    ]


def _built(state: dict[str, Any], builder: str) -> list[dict[str, Any]]:
    """Return what was kept of the last build."""
    found = [entry for entry in state.get("conditions", []) if entry["type"] in ("Built", "GatePassed")]
    for entry in found:
        if entry["reason"] == "Building" and not builder:  # killed: it could not write that it ended
            entry |= {"reason": "BuildFailed", "message": INTERRUPTED}
    return found


def _condition(kind: str, status: bool, why: tuple[str, str], generation: int) -> dict[str, Any]:
    return {"type": kind, "status": str(status), "reason": why[0], "message": why[1], "observedGeneration": generation}


def _behind(state: dict[str, Any], server: Any, revision: Any) -> tuple[str, str]:
    """Return why what answers is not the newest accepted revision, as (reason, message)."""
    serving = server["revision"]
    if serving == state.get("pinned"):
        return "Pinned", f"spec.serve.pin holds {serving[7:19]}"
    newest = f", {revision['digest'][7:19]} is accepted" if revision else ""
    return "OlderRevisionServes", f"{serving[7:19]} serves{newest}; run: still up {state.get('file') or 'FILE'}"
