"""What a gate says when no candidate meets every limit: which were missed, and what would help. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stillhouse.errors import GateFailed, GateInconclusive
from stillhouse.passes.base import Artifact
from stillhouse.passes.evaluate.candidate import Measured
from stillhouse.passes.evaluate.rows import Truncation
from stillhouse.passes.evaluate.speed import SPEED
from stillhouse.passes.evaluate.verdict import describe
from stillhouse.planning.few import after_the_gate

__all__ = ["Learned", "advice", "refusal"]

_SMALLER_STUDENT = (
    "a smaller student (spec.distill.student: hiddenSize, hiddenLayers, vocabulary.maxSize; a factory's own numbers)"
)
_OTHER_MODEL = "name another model (spec.source.uri; one in safetensors can be distilled for your data with spec.distill)"
_LIMITS = {"size": "maxSize", "latencyP50": "maxLatencyP50", "latencyP99": "maxLatencyP99", "throughput": "minThroughput"}

_MUCH = 0.1
"""Share of the text's tokens that are cut off from which on that is told: a few long texts are no reason for slower answers."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a student learned from.

    `rows` (None: not known), with those of `spec.distill.unlabelled` where it is given. `labelled`: those of
    `spec.distill.data` have a column of labels.
    """

    rows: int | None = None
    unlabelled: bool = False
    labelled: bool = False

    @classmethod
    def of(cls, inputs: Mapping[str, Artifact]) -> Learned | None:
        """Read it from the gate's inputs; None where nothing was distilled."""
        if "training" not in inputs:
            return None
        counts = [inputs[role].facts.get("rows") for role in ("training", "unlabelled") if role in inputs]
        known = [int(count) for count in counts if count is not None]
        labelled = "label" in inputs["training"].facts.get("named", ())
        return cls(sum(known) if len(known) == len(counts) else None, "unlabelled" in inputs, labelled)


def advice(
    missed: Collection[str],
    *,
    learned: Learned | None,
    truncated: Truncation | None = None,
    precisions: Collection[str] = (),
) -> str:
    """Return what to do about the limits that were missed, by their names: more training makes no model smaller or faster.

    `learned` is None where nothing was distilled, `truncated` what of the gate's text was not seen, `precisions` are the
    candidates'. An ONNX source, which the candidates do not tell of, cannot be distilled.
    """
    distilled = learned is not None
    size, speed = "size" in missed, bool(missed & SPEED.keys())
    if missed - SPEED.keys() - {"size"} or not missed:  # quality as well: a smaller model would be worse still
        better = _OTHER_MODEL
        if learned is not None:
            better = after_the_gate(
                learned.rows, alone=not (size or speed), unlabelled=learned.unlabelled, labelled=learned.labelled
            )
        return f"{_longer_texts(truncated)}{better}, or move the limit"
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


def _longer_texts(truncated: Truncation | None) -> str:
    """Say that a good share of the text is not seen, where it is not."""
    if truncated is None or truncated.left_out < _MUCH * (truncated.left_out + truncated.tokens):
        return ""
    share = truncated.left_out / (truncated.left_out + truncated.tokens)
    return f"let it read longer texts (spec.source.maxLength: {truncated.max_length} now, which cuts {share:.0%} of the tokens); "


def refusal(measured: Sequence[Measured], better: str) -> GateFailed | GateInconclusive:
    """Return the error for candidates none of which passed; `better` says what would help."""
    lines = [f"{each.precision}: {describe(check)}" for each in measured for check in each.checks if check.outcome != "passed"]
    noisy = {
        check.name
        for each in measured
        if each.outcome == "inconclusive"
        for check in each.checks
        if check.outcome == "inconclusive"
    }
    if noisy:
        error: GateFailed | GateInconclusive = GateInconclusive(
            "the gate could not tell",
            field="spec.gate",
            found="\n           ".join(lines),
            fix=_clearer(noisy),
        )
    else:
        error = GateFailed(
            "no candidate met every limit",
            field="spec.gate",
            found="\n           ".join(lines),
            fix=f"{better}; what served before goes on serving",
        )
    return error


def _clearer(noisy: Collection[str]) -> str:
    """Say what narrows the intervals: a machine's noise is in no answer, and rows make no speed certain."""
    ways = []
    if any(name not in SPEED for name in noisy):
        ways.append("give the gate more rows (spec.gate.data)")
    if any(name in SPEED for name in noisy):
        ways.append("let it send more requests (spec.gate.load.requests), on a quieter machine")
    return f"{' and '.join(ways)}, or move the limit"
