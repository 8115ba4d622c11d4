"""What is allowed in a file and will still not end well."""

from __future__ import annotations

from stillhouse.api.gate import Gate
from stillhouse.api.model import DistilledModel
from stillhouse.passes.evaluate.intervals import fewest_for_upper_end

__all__ = ["advice"]


def advice(model: DistilledModel) -> list[str]:
    """Return warnings, a line each, that begin with the field to change."""
    gate = model.spec.gate
    return [] if gate is None else _too_few_requests(gate)


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
