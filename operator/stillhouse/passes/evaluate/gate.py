"""The gate: candidates are measured in the ladder's order, the first that meets every limit becomes the revision."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.errors import GateFailed, GateInconclusive
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.evaluate.candidate import SPEED, Candidate, Measured, measure
from stillhouse.passes.evaluate.disjoint import check_disjoint
from stillhouse.passes.evaluate.rows import Truncation, read_reference, read_rows, truncation
from stillhouse.passes.evaluate.serving import BesideUs
from stillhouse.passes.evaluate.verdict import describe
from stillhouse.planning.few import after_the_gate

__all__ = ["Gate", "GateConfig", "GateFacts", "advice", "report"]

_SMALLER_STUDENT = (
    "a smaller student (spec.distill.student: hiddenSize, hiddenLayers, vocabulary.maxSize; a factory's own numbers)"
)
_OTHER_MODEL = "name another model (spec.source.uri; one in safetensors can be distilled for your data with spec.distill)"
_LIMITS = {"size": "maxSize", "latencyP50": "maxLatencyP50", "latencyP99": "maxLatencyP99", "throughput": "minThroughput"}


class GateConfig(PassConfig):
    """What planning asks for; limits are in seconds, bytes and answers per second."""

    task: str
    candidates: list[str]
    serve: dict[str, Any]
    runtime: str
    cpus: float
    metrics: list[dict[str, Any]]
    load: dict[str, int] | None
    limits: dict[str, float]
    repeats: int


@dataclass(frozen=True, slots=True)
class GateFacts:
    """Which candidate was chosen, and every figure of every candidate that was measured.

    `truncated` is how much of the gate's text the chosen one does not see (`rows.Truncation`), None where there is no text.
    `server` is what served it: its hardware and limits (`clients.hardware.Hardware`), which are not those of the clients.
    """

    precision: str
    model: str
    size: int
    rows: int
    truncated: Truncation | None = None
    candidates: list[dict[str, Any]] = field(default_factory=list)
    server: dict[str, Any] = field(default_factory=dict)


class Gate(Pass[GateConfig, GateFacts]):
    """Measures through Triton, in the runtime and at the CPU limit that will serve."""

    name = "gate"
    version = 3
    kind = "revision"
    config_type = GateConfig

    def run(self, config: GateConfig, inputs: Mapping[str, Artifact], ctx: Context) -> GateFacts:
        """Measure, choose, and put the chosen model beside a receipt into `ctx.out`.

        Raises:
            GateFailed: no candidate meets every limit.
            GateInconclusive: none does, and at least one is too noisy to tell.
            DataError: the gate's rows do not fit, or are also in the training or calibration data.
        """
        check_disjoint(inputs)
        candidates = [
            Candidate(precision, inputs[f"candidate-{position}"]) for position, precision in enumerate(config.candidates)
        ]
        signature = Signature.read(candidates[0].artifact.path)
        metrics = [str(metric["name"]) for metric in config.metrics]
        rows = read_rows(inputs["data"], signature, metrics) if "data" in inputs else None
        reference = read_reference(inputs["reference"]) if "reference" in inputs else None
        settings = config.model_dump()
        server = ctx.server or BesideUs()
        measured: list[Measured] = []
        for candidate in candidates:
            same = next((each.precision for each in measured if each.digest == candidate.artifact.digest), None)
            if same is not None:  # for example nothing to exclude: the rung below would measure the same bytes again
                ctx.progress.note(f"{candidate.precision}: the same model as {same}, which did not pass")
                continue
            ctx.progress.update(0, None, "", f"{candidate.precision}: starting the server")
            scratch = ctx.scratch / candidate.precision
            shutil.rmtree(scratch, ignore_errors=True)
            with server.serving(candidate.artifact, candidate.precision, settings, scratch) as served:
                found = measure(served.connect, candidate, settings, rows, reference, ctx.progress)
            shutil.rmtree(scratch, ignore_errors=True)  # nothing to go on from; kept only where the server's log may tell more
            if rows is not None:
                found.truncated = truncation(rows, candidate.artifact.path, signature)
            measured.append(found)
            for check in found.checks:
                ctx.progress.note(f"{candidate.precision}: {describe(check)}")
            if found.outcome == "passed":
                _write_revision(ctx.out, candidate, report(measured), inputs)
                return GateFacts(
                    precision=candidate.precision,
                    model=candidate.artifact.digest,
                    size=candidate.artifact.size,
                    rows=rows.count if rows else 0,
                    truncated=found.truncated,
                    candidates=report(measured),
                    server=dict(served.facts),
                )
        training = inputs.get("training")
        learned = training.facts.get("rows") if training else None
        missed = {check.name for each in measured for check in each.checks if check.outcome == "failed"}
        better = advice(missed, distilled=training is not None, rows=learned, precisions=config.candidates)
        raise _refusal(measured, better)

    def foresee(self, inputs: Mapping[str, Artifact]) -> None:
        """Refuse rows that leak.

        Raises:
            DataError: the gate's rows are also in the training or calibration data.
        """
        check_disjoint(inputs)


def report(measured: list[Measured]) -> list[dict[str, Any]]:
    """Return every candidate's figures as JSON data, with its verdict and the limits that it missed."""
    return [
        {
            "precision": each.precision,
            "digest": each.digest,
            "size": each.size,
            "outcome": each.outcome,
            "figures": {name: interval.to_json() for name, interval in each.figures.items()},
            "checks": [{**check.to_json(), "text": describe(check)} for check in each.checks],
            "repeats": each.repeats,
            "truncated": None if each.truncated is None else asdict(each.truncated),
        }
        for each in measured
    ]


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
    if "int8" not in precisions:
        ways.append("int8 (spec.compress.precision: auto)")
    if speed:
        ways.append("more CPU (spec.serve.resources.limits.cpu)")
        ways.append("other batching (spec.serve.batching), or fewer clients (spec.gate.load.concurrency)")
    limits = [f"spec.gate.{field}" for name, field in _LIMITS.items() if name in missed]
    return f"make it {', '.join(ways)}, or move {' and '.join(limits)}"


def _refusal(measured: list[Measured], better: str) -> GateFailed | GateInconclusive:
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
    error.report = report(measured)
    return error


def _write_revision(out: Path, candidate: Candidate, figures: list[dict[str, Any]], inputs: Mapping[str, Artifact]) -> None:
    """Put the chosen model's files (hard links where the disk allows) beside a receipt with its lineage."""
    for source in sorted(candidate.artifact.path.iterdir()):
        if source.name == "manifest.json" or not source.is_file():
            continue
        try:
            os.link(source, out / source.name)
        except OSError:
            shutil.copyfile(source, out / source.name)
    receipt = {
        "version": 1,
        "model": candidate.artifact.digest,
        "precision": candidate.precision,
        "size": candidate.artifact.size,
        "facts": dict(candidate.artifact.facts),
        "gate": figures,
        "parents": {role: artifact.digest for role, artifact in sorted(inputs.items())},
    }
    (out / "receipt.json").write_text(json.dumps(receipt, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
