"""How values are written: numbers, decimals, percentages, durations and sizes, and which type stands where."""

from __future__ import annotations

from tests.support.api_objects.case import Case, bad
from tests.support.api_objects.fields import LOSS, METRIC

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case("a whole number with a point", "text", {"spec.distill.seed": 8.0}),
    Case("no fraction of a second but a unit", "text", {"spec.gate.maxLatencyP99": "1.5s"}),
    Case("bytes without a unit", "text", {"spec.gate.maxSize": "1048576"}),
    Case("memory in other units, equal", "text", {"spec.serve.resources.requests.memory": "524288Ki"}),
)

INVALID: tuple[Case, ...] = (
    bad("a wrong unit of time", "text", "spec.gate.maxLatencyP99", "20 millis"),
    bad("no unit of time", "text", "spec.gate.maxLatencyP99", "20"),
    bad("a wrong unit of size", "text", "spec.gate.maxSize", "12MB"),
    bad("a negative decimal", "text", f"{LOSS}.weight", "-1"),
    bad("a decimal with an exponent", "text", f"{LOSS}.weight", "1e-3"),
    bad("a percentage without its sign", "text", "spec.distill.stages[0].warmup", "5"),
    bad("a percentage above 100", "text", "spec.distill.stages[0].warmup", "101%"),
    bad("a float where a decimal string belongs", "text", f"{LOSS}.weight", 0.5),
    bad("a whole number where a decimal string belongs", "text", "spec.distill.stages[0].learningRate", 1),
    bad("a number where a percentage belongs", "text", f"{METRIC}.min", 70),
    bad("a number where a duration belongs", "text", "spec.serve.batching.maxQueueDelay", 1),
    bad("a number where a CPU quantity belongs", "text", "spec.serve.resources.limits.cpu", 2),
    bad("text where a number belongs", "text", "spec.distill.seed", "7"),
    bad("a fraction where a whole number belongs", "text", "spec.distill.seed", 7.5),
    bad("a boolean where a number belongs", "text", "spec.distill.seed", True),
    bad("text where a boolean belongs", "text", "spec.serve.responseCache", "yes"),
    bad("a number where a boolean belongs", "text", "spec.serve.responseCache", 1),
    bad("a list where a mapping belongs", "text", "spec.serve", []),
    bad("a mapping where a list belongs", "text", "spec.distill.stages", {"losses": []}),
    bad("null in a list", "text", "spec.distill.stages[1]", None),
)
