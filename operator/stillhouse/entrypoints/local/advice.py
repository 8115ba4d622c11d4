"""What is allowed in a file and will still not end well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

from stillhouse.api.compress import Compress
from stillhouse.api.distill import Distill
from stillhouse.api.gate import Gate
from stillhouse.api.model import DistilledModel
from stillhouse.api.scalars import parse_share_or_decimal
from stillhouse.api.source import DataSource
from stillhouse.api.student import Student
from stillhouse.passes.evaluate.intervals import fewest_for_share, fewest_for_upper_end
from stillhouse.planning.few import beforehand
from stillhouse.planning.larger import larger_student
from stillhouse.planning.macs import macs_per_token
from stillhouse.planning.plan import Environment
from stillhouse.planning.runtimes import GPU

__all__ = ["advice"]

HIGHEST_RATE = Decimal(1)
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = Decimal("0.001"), Decimal(100)
"""A thousandth of a cosine's range and a hundred times that of common logits: float32 tells no two answers apart beyond."""


def advice(model: DistilledModel, env: Environment | None = None) -> list[str]:
    """Return warnings, a line each, that begin with the field to change; with `env` also of what the sources hold."""
    gate = model.spec.gate
    found = []
    if gate is not None:
        found = [*_too_few_requests(gate), *_too_few_rows(gate, None if env is None else _rows(gate.data, env))]
    if model.spec.serve.runtime == GPU:
        found.append(f"spec.serve.runtime: {GPU} builds and serves in a cluster only; this plan is what its Jobs would do")
    found += _unread(model.spec.compress)
    distill = model.spec.distill
    if distill is not None:
        found += [*_unheard(distill), *_astray(distill)]
        known = None if env is None else env.pins.get(model.spec.source.uri)
        found += _smaller_assistants(distill, {} if known is None else known.info)
    few = "" if distill is None or env is None else beforehand(_learned(distill, env), model.spec.source.task)
    larger = "" if distill is None or env is None else larger_student(distill, model.spec.source, env)
    return [*found, *filter(None, (few, larger))]


def _unheard(distill: Distill) -> list[str]:
    """Warn of rows without labels that no loss learns from."""
    kinds = {loss.kind for _, learner in distill.learners() for stage in learner.stages for loss in stage.losses}
    if distill.unlabelled is None or kinds != {"hard"}:
        return []
    return ["spec.distill.unlabelled: no loss learns from these rows: hard reads labels alone; logits asks the teacher"]


def _astray(distill: Distill) -> Iterator[str]:
    """Warn of numbers by which a loss says nothing any more, or a training goes astray in its first steps."""
    stages = [
        (f"{place}.stages[{number}]", stage)
        for place, learner in distill.learners()
        for number, stage in enumerate(learner.stages)
    ]
    for at, stage in stages:
        rates = {"learningRate": stage.learning_rate, "embeddingLearningRate": stage.embedding_learning_rate}
        for name, rate in rates.items():
            if rate and Decimal(rate) > HIGHEST_RATE:
                how = "a step moves each weight by about the rate (AdamW): training goes astray"
                yield f"{at}.{name}: {rate}: {how}; 0.001 when left out"
        for which, loss in enumerate(stage.losses):
            course = loss.temperature_schedule
            ends = {"temperature": loss.temperature, "temperatureSchedule.to": course.to if course else None}
            for name, end in ends.items():
                if end and (says := _says(Decimal(end))):
                    yield f"{at}.losses[{which}].{name}: {end}: {says}"


def _says(temperature: Decimal) -> str:
    """Return what a temperature makes of the teacher's answer where that is nothing to learn from, else ""."""
    if temperature > HIGHEST_TEMPERATURE:
        return "the teacher's answer becomes the same for all, there is nothing left to learn; 1 to 20 are usual for logits"
    if temperature < LOWEST_TEMPERATURE:
        return "only the likeliest is left of the teacher's answer, and the loss falls to 0; 0.01 to 0.1 are usual for embeddings"
    return ""


def _unread(compress: Compress) -> list[str]:
    """Warn of calibration that nothing reads: ranges that every run looks for, and precisions that ask no rows."""
    static = compress.qat is not None or (compress.int8 is not None and compress.int8.ranges != "dynamic")
    learned = compress.precision == "int4" and (compress.int4 is None or compress.int4.method in (None, "gptq"))
    if compress.calibration is None or static or learned or compress.precision in ("auto", "mixed"):
        return []
    why = {"int8": "INT8 looks for its ranges in every run; compress.int8.ranges: minmax would read them off these rows"}
    if compress.precision == "int4":
        why["int4"] = "compress.int4.method: rtn rounds without rows; gptq reads them"
    reason = why.get(compress.precision, f"precision {compress.precision} needs no rows")
    return [f"spec.compress.calibration: nothing is calibrated with it: {reason}"]


def _smaller_assistants(distill: Distill, teacher: Mapping[str, Any]) -> list[str]:
    """Warn of assistants that are smaller than who learns from them. `teacher`: hiddenSize and layers, where known."""
    learners = [(f"{place}.student", each.student) for place, each in distill.learners()]
    sizes = [_macs(student, teacher) for _, student in learners]
    return [
        f"{learners[position][0]}: this assistant is smaller than {learners[position + 1][0]}, which learns from it:"
        " a chain goes from large to small"
        for position, (mine, next_) in enumerate(pairwise(sizes))
        if mine and next_ and mine < next_
    ]


def _macs(student: Student, teacher: Mapping[str, Any]) -> int:
    """Return the multiply-accumulates per token of a shape, 0 where there is no telling."""
    if student.uri or student.factory:
        return 0
    width = int(student.hidden_size or teacher.get("hiddenSize") or 0)
    return macs_per_token(width, int(student.hidden_layers or teacher.get("layers") or 0), student.intermediate_size or 4 * width)


def _learned(distill: Distill, env: Environment) -> int | None:
    """Return how many rows of the user's are learned from; None where only reading all would tell."""
    rows = [_rows(data, env) for data in (distill.data, distill.unlabelled) if data is not None]
    return None if None in rows else sum(each or 0 for each in rows)


def _rows(data: DataSource, env: Environment) -> int | None:
    """Return how many rows of data are read; None where only reading all would tell."""
    pin = env.pins.get(data.uri)
    there = None if pin is None else pin.info.get("rows")
    known = [int(rows) for rows in (there, data.max_rows) if rows is not None]
    return min(known, default=None)


def _too_few_rows(gate: Gate, rows: int | None) -> list[str]:
    """Warn of limits that so few rows (None: not known) cannot show, even without a single mistake."""
    found = []
    for position, metric in enumerate(gate.metrics):
        if metric.min is None or metric.of == "teacher":
            continue
        field, limit = f"spec.gate.metrics[{position}].min", parse_share_or_decimal(metric.min)
        needed = fewest_for_share(limit) if limit > 0 else 1
        if needed is None:
            found.append(f"{field}: no number of rows shows {metric.name} {metric.min}, for the interval's lower end is compared")
        elif metric.name != "cosine" and rows is not None and rows < needed:
            found.append(f"{field}: {metric.min} cannot be told from {rows:,} rows; without a single mistake it takes {needed:,}")
    return found


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
