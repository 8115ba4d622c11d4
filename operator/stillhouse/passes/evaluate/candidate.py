"""One candidate, measured through the server that will serve it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from stillhouse.clients.inference import InferenceClient, infer_row
from stillhouse.errors import QueueRefusal, SpecError
from stillhouse.passes.base import Artifact, Progress
from stillhouse.passes.evaluate.decisions import agreement_of, decided
from stillhouse.passes.evaluate.intervals import Interval, block_interval, quantile_interval
from stillhouse.passes.evaluate.load import LoadResult, closed_loop
from stillhouse.passes.evaluate.metrics import Outputs, evaluate
from stillhouse.passes.evaluate.rows import GateRows, Truncation, answer_rows
from stillhouse.passes.evaluate.serving import MODEL
from stillhouse.passes.evaluate.speed import SPEED
from stillhouse.passes.evaluate.verdict import Check, combine, compare

__all__ = ["Candidate", "Measured", "measure"]

WORKERS = 2
"""Connections that ask for the rows' answers; fewer where the queue that will serve holds fewer."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rung of the ladder: its precision and its artifact."""

    precision: str
    artifact: Artifact


@dataclass(slots=True)
class Measured:
    """What a candidate showed: figures by name, checks against limits, how much of the text it did not see.

    `server` is what served it (`clients.hardware.Hardware`), `again` the answers a second of a search's first candidate when
    all the others had been measured.
    """

    precision: str
    digest: str
    size: int
    figures: dict[str, Interval] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    repeats: int = 0
    truncated: Truncation | None = None
    server: dict[str, Any] = field(default_factory=dict)
    again: Interval | None = None

    @property
    def outcome(self) -> str:
        """Return the verdict over all its limits."""
        return combine(self.checks)


def measure(
    connect: Callable[[], InferenceClient],
    candidate: Candidate,
    config: Mapping[str, Any],
    rows: GateRows | None,
    reference: Outputs | None,
    progress: Progress,
) -> Measured:
    """Measure a candidate that is being served: quality on every row, then speed under the gate's load.

    Raises:
        SpecError: the queue policy that is to serve refuses the gate's own requests.
    """
    try:
        return _measure(connect, candidate, config, rows, reference, progress)
    except QueueRefusal as refusal:
        raise _too_narrow(refusal, config) from refusal


def _too_narrow(refusal: QueueRefusal, config: Mapping[str, Any]) -> SpecError:
    serve, load = config["serve"], config["load"]
    field, found, wider = {
        "size": ("maxSize", str(serve["queueSize"]), "raise it, or leave it out (no limit)"),
        "timeout": ("timeout", f"{serve['queueTimeout'] or 0:g} s", "raise it, or leave it out"),
    }[refusal.limit]
    return SpecError(
        f"the queue refuses the gate's own requests ({refusal.problem.found})",
        field=f"spec.serve.queue.{field}",
        found=found,
        fix=f"{wider}; or lower spec.gate.load.concurrency ({load['concurrency']})",
    )


def _measure(
    connect: Callable[[], InferenceClient],
    candidate: Candidate,
    config: Mapping[str, Any],
    rows: GateRows | None,
    reference: Outputs | None,
    progress: Progress,
) -> Measured:
    found = Measured(candidate.precision, candidate.artifact.digest, candidate.artifact.size)
    limits = config["limits"]
    if "size" in limits:
        size = float(candidate.artifact.size)
        found.checks.append(compare("size", "max", float(limits["size"]), Interval(size, size, size, 1), "B"))
    if rows is None:
        return found
    if config["metrics"]:
        outputs = answer_rows(
            connect,
            MODEL,
            rows,
            batch=int(config["serve"]["maxBatchSize"]),
            workers=min(WORKERS, int(config["serve"]["queueSize"]) or WORKERS),
            progress=lambda done, total: progress.update(done, total, "rows", f"{candidate.precision}: quality"),
        )
        steps: dict[str, Any] | None = None
        for metric in config["metrics"]:
            if metric.get("output"):
                assert reference is not None  # planning asks the teacher wherever there are metrics
                steps = steps if steps is not None else decided(candidate.artifact.path, reference, rows)
                name = f"agreement of {metric['output']}"
                found.figures[name] = interval = agreement_of(metric["output"], outputs.steps, steps)
                found.checks.append(compare(name, "min", float(metric["min"]), interval))
                continue
            relative = metric["of"] == "teacher"
            name = metric["name"] + (" / teacher" if relative else "")
            interval = evaluate(metric["name"], outputs, reference, rows.truth, relative=relative)
            sense: Literal["min", "max"] = "max" if metric["min"] is None else "min"
            found.figures[name] = interval
            found.checks.append(compare(name, sense, float(metric[sense]), interval))
    _speed(connect, found, config, rows, progress)
    return found


def _speed(
    connect: Callable[[], InferenceClient],
    found: Measured,
    config: Mapping[str, Any],
    rows: GateRows,
    progress: Progress,
) -> None:
    """Measure speed; while a limit is too noisy to tell, measure more, up to `repeats` times."""
    load, limits = config["load"], config["limits"]
    results: list[LoadResult] = []
    for repeat in range(int(config["repeats"]) + 1):
        results.append(_load(connect, rows, load, f"{found.precision}: load", progress))
        speed = _figures(results)
        checks = [
            compare(name, sense, float(limits[name]), speed[name], unit)
            for name, (sense, unit) in SPEED.items()
            if name in limits
        ]
        if combine(checks) != "inconclusive":
            break
        progress.note(f"{found.precision}: speed is too noisy to tell after {repeat + 1} runs")
    found.repeats = len(results)
    found.figures.update(speed)
    found.checks.extend(checks)


def _load(
    connect: Callable[[], InferenceClient], rows: GateRows, load: Mapping[str, Any], label: str, progress: Progress
) -> LoadResult:
    total = int(load["requests"])
    common: dict[str, Any] = {
        "concurrency": int(load["concurrency"]),
        "requests": total,
        "progress": lambda done: progress.update(done, total, "requests", label),
    }
    return closed_loop(connect, lambda client, row: infer_row(client, MODEL, rows.tensor, row), rows.requests, **common)


def _figures(results: list[LoadResult]) -> dict[str, Interval]:
    latencies = np.concatenate([result.latencies for result in results])
    return {
        "latencyP50": quantile_interval(latencies, 0.5),
        "latencyP99": quantile_interval(latencies, 0.99),
        "throughput": block_interval([block for result in results for block in result.blocks]),
    }
