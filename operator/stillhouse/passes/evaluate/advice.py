"""What a gate says when no candidate meets every limit: which were missed, and what would help. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from stillhouse.errors import GateFailed, GateInconclusive
from stillhouse.passes.evaluate.candidate import Measured
from stillhouse.passes.evaluate.speed import SPEED
from stillhouse.passes.evaluate.verdict import describe
from stillhouse.planning.few import after_the_gate

__all__ = ["advice", "refusal"]

_SMALLER_STUDENT = (
    "a smaller student (spec.distill.student: hiddenSize, hiddenLayers, vocabulary.maxSize; a factory's own numbers)"
)
_OTHER_MODEL = "name another model (spec.source.uri; one in safetensors can be distilled for your data with spec.distill)"
_LIMITS = {"size": "maxSize", "latencyP50": "maxLatencyP50", "latencyP99": "maxLatencyP99", "throughput": "minThroughput"}


def advice(missed: Collection[str], *, distilled: bool, rows: int | None = None, precisions: Collection[str] = ()) -> str:
    """Return what to do about the limits that were missed, by their names: more training makes no model smaller or faster.

    `rows` were trained on (None: not known), `precisions` are the candidates'. An ONNX source, which the candidates do not
    tell of, cannot be distilled.
    """
    size, speed = "size" in missed, bool(missed & SPEED.keys())
    if missed - SPEED.keys() - {"size"} or not missed:  # quality as well: a smaller model would be worse still
        better = after_the_gate(rows, alone=not (size or speed)) if distilled else _OTHER_MODEL
        return f"{better}, or move the limit"
    student = (
        _SMALLER_STUDENT if distilled else "a smaller model (spec.source.uri; one in safetensors can be distilled: spec.distill)"
    )
    ways = [f"{'smaller' if size else 'faster'}: {student}"]
    if not any(each.startswith("int8") for each in precisions):
        ways.append("int8 (spec.compress.precision: auto)")
    if size and not {"int4", "mixed"} & set(precisions):
        ways.append("weights of 4 bits (spec.compress.precision: mixed, or goal: small)")
    if speed:
        ways.append("more CPU (spec.serve.resources.limits.cpu)")
        ways.append("other batching (spec.serve.batching), or fewer clients (spec.gate.load.concurrency)")
    limits = [f"spec.gate.{field}" for name, field in _LIMITS.items() if name in missed]
    return f"make it {', '.join(ways)}, or move {' and '.join(limits)}"


def refusal(measured: Sequence[Measured], better: str) -> GateFailed | GateInconclusive:
    """Return the error for candidates none of which passed; `better` says what would help."""
    lines = [f"{each.precision}: {describe(check)}" for each in measured for check in each.checks if check.outcome != "passed"]
    open_ones = [each for each in measured if each.outcome == "inconclusive"]
    if open_ones:
        error: GateFailed | GateInconclusive = GateInconclusive(
            "the gate could not tell",
            field="spec.gate",
            found="\n           ".join(lines),
            fix="give the gate more rows (spec.gate.data) or requests (spec.gate.load.requests), quieten the machine,"
            " or move the limit",
        )
    else:
        error = GateFailed(
            "no candidate met every limit",
            field="spec.gate",
            found="\n           ".join(lines),
            fix=f"{better}; what served before goes on serving",
        )
    return error
