"""The gate: candidates are measured in the ladder's order, the first that meets every limit becomes the revision.

With a goal every one is measured, and the best of those that meet every limit becomes it (`choosing`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.errors import StillhouseError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.evaluate.advice import Learned, advice, refusal
from stillhouse.passes.evaluate.candidate import Candidate, Measured, measure
from stillhouse.passes.evaluate.choosing import Goal, choose, drifted, lost
from stillhouse.passes.evaluate.disjoint import check_disjoint
from stillhouse.passes.evaluate.front import svg
from stillhouse.passes.evaluate.intervals import Interval
from stillhouse.passes.evaluate.kept import drop, keep, kept
from stillhouse.passes.evaluate.metrics import Outputs
from stillhouse.passes.evaluate.rows import GateRows, Truncation, read_reference, read_rows, truncation
from stillhouse.passes.evaluate.serving import BesideUs
from stillhouse.passes.evaluate.speed import too_noisy
from stillhouse.passes.evaluate.verdict import describe

__all__ = ["FRONT", "Gate", "GateConfig", "GateFacts", "report"]

_KEPT = "measured"
FRONT = "candidates.svg"
"""The picture of a search, beside the revision's files."""


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
    goal: Goal | None = None


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
        measured: list[Measured] = []
        for candidate in candidates:
            same = next((each.precision for each in measured if each.digest == candidate.artifact.digest), None)
            if same is not None:  # for example nothing to exclude: the rung below would measure the same bytes again
                ctx.progress.note(f"{candidate.precision}: the same model as {same}")
                continue
            found = kept(ctx.scratch / _KEPT, candidate)
            if found is None:
                found = _measured(candidate, config, signature, rows, reference, ctx)
                keep(ctx.scratch / _KEPT, found)
            measured.append(found)
            for check in found.checks:
                ctx.progress.note(f"{candidate.precision}: {describe(check)}")
            if found.outcome == "passed" and config.goal is None:
                break
        passed = [each for each in measured if each.outcome == "passed"]
        if not passed:
            missed = {check.name for each in measured for check in each.checks if check.outcome == "failed"}
            cut = measured[0].truncated
            better = advice(missed, learned=Learned.of(inputs), truncated=cut, precisions=config.candidates)
            error = refusal(measured, better)
            error.report = report(measured)
            for each in error.report:
                if too_noisy([each]):
                    drop(ctx.scratch / _KEPT, each["precision"])
            raise error
        taken = choose(config.goal, passed) if config.goal else passed[0]
        if config.goal and config.load and rows is not None and len(measured) > 1:
            try:
                measured[0].again = _speed_again(candidates[0], config, signature, rows, ctx)
            except StillhouseError as error:  # what was measured stands without it
                ctx.progress.note(f"{candidates[0].precision} could not be loaded again: {error.problem.message}")
            if changed := drifted(measured[0]):
                ctx.progress.note(changed)
        told = report(measured, config.goal, taken)
        for each in told if config.goal else ():
            ctx.progress.note(f"{each['precision']}: {each['lost'] or f'taken, {config.goal}'}")
        chosen = next(each for each in candidates if each.precision == taken.precision)
        _write_revision(ctx.out, chosen, told, inputs)
        if config.goal:
            (ctx.out / FRONT).write_text(svg(measured, taken, config.goal), encoding="utf-8")
        return GateFacts(
            precision=taken.precision,
            model=taken.digest,
            size=taken.size,
            rows=rows.count if rows else 0,
            truncated=taken.truncated,
            candidates=told,
            server=taken.server,
        )

    def foresee(self, config: GateConfig, inputs: Mapping[str, Artifact]) -> None:
        """Refuse rows that leak.

        Raises:
            DataError: the gate's rows are also in the training or calibration data.
        """
        check_disjoint(inputs)


def report(measured: Sequence[Measured], goal: Goal | None = None, taken: Measured | None = None) -> list[dict[str, Any]]:
    """Return every candidate's figures as JSON data, with its verdict and the limits that it missed.

    Of a search also why it was not `taken` (`lost`, empty for the one that was), and of its first one the answers a second
    when the others had been measured (`again`), with what that means (`drifted`).
    """
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
            **({"lost": _lost(goal, each, taken)} if goal and taken else {}),
            **({"again": each.again.to_json(), "drifted": drifted(each)} if each.again else {}),
        }
        for each in measured
    ]


def _lost(goal: Goal, each: Measured, taken: Measured) -> str:
    if each is taken:
        return ""
    missed = next((check for check in each.checks if check.outcome != "passed"), None)
    return describe(missed) if missed else lost(goal, each, taken)


def _measured(
    candidate: Candidate,
    config: GateConfig,
    signature: Signature,
    rows: GateRows | None,
    reference: Outputs | None,
    ctx: Context,
) -> Measured:
    """Serve a candidate and measure it."""
    ctx.progress.update(0, None, "", f"{candidate.precision}: starting the server")
    settings = config.model_dump()
    scratch = ctx.scratch / candidate.precision
    shutil.rmtree(scratch, ignore_errors=True)
    with (ctx.server or BesideUs()).serving(candidate.artifact, candidate.precision, settings, scratch) as served:
        found = measure(served.connect, candidate, settings, rows, reference, ctx.progress)
        found.server = dict(served.facts)
    shutil.rmtree(scratch, ignore_errors=True)  # nothing to go on from; kept only where the server's log may tell more
    if rows is not None:
        found.truncated = truncation(rows, candidate.artifact.path, signature)
    return found


def _speed_again(candidate: Candidate, config: GateConfig, signature: Signature, rows: GateRows, ctx: Context) -> Interval:
    """Put a candidate under the load once more, without its limits, to see whether the machine has stayed the same."""
    alone = config.model_copy(update={"metrics": [], "limits": {}})
    return _measured(candidate, alone, signature, rows, None, ctx).figures["throughput"]


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
