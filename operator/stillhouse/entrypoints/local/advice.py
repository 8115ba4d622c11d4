"""What is allowed in a file and will still not end well."""

from __future__ import annotations

from stillhouse.api.gate import Gate
from stillhouse.api.model import DistilledModel
from stillhouse.passes.evaluate.intervals import fewest_for_upper_end
from stillhouse.planning.few import beforehand
from stillhouse.planning.plan import Environment

__all__ = ["advice"]


def advice(model: DistilledModel, env: Environment | None = None) -> list[str]:
    """Return warnings, a line each, that begin with the field to change; with `env` also of what the sources hold."""
    gate = model.spec.gate
    found = [] if gate is None else _too_few_requests(gate)
    rows = beforehand(_training_rows(model, env), model.spec.source.task) if env is not None else ""
    return [*found, rows] if rows else found


def _training_rows(model: DistilledModel, env: Environment) -> int | None:
    """Return how many rows a student would learn from; None where there is none, or where only reading all would tell."""
    if model.spec.distill is None:
        return None
    data = model.spec.distill.data
    pin = env.pins.get(data.uri)
    there = None if pin is None else pin.info.get("rows")
    known = [int(rows) for rows in (there, data.max_rows) if rows is not None]
    return min(known, default=None)


def _too_few_requests(gate: Gate) -> list[str]:
    """Warn of a 99th percentile whose upper end no value of so few requests can be: that gate would never pass."""
    needed, runs = fewest_for_upper_end(0.99), gate.repeats + 1
    sent = gate.load.requests * runs
    if gate.max_latency_p99 is None or sent >= needed:
        return []
    return [
        f"spec.gate.load.requests: {gate.load.requests} requests in at most {runs} runs (spec.gate.repeats: {gate.repeats})"
        f" are {sent}; spec.gate.maxLatencyP99 cannot be told before {needed}: write {-(-needed // runs)} or more"
    ]
