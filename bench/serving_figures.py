"""What `bench-serving` quotes: the numbers of a measurement, who is compared with whom, and the table.

A comparison is added or renamed here; how a side is measured is `bench.serving`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.harness.load import Sample
from bench.harness.results import quoted, table
from bench.harness.rounds import Metric, Run, Spread, series
from bench.harness.sides import Side
from bench.peers.sides import FASTAPI, FASTAPI_ONNX, FASTAPI_TUNED, INFINITY

PEAK, OPEN, SINGLE = "peak", "open", "single"
COMPRESSED, COMPRESSED_INPROCESS = "compressed", "compressed-inprocess"
STUDENT, STUDENT_INPROCESS = "student", "student-inprocess"
# A name that ends so is measured at its peak only: with one client there are no batches to split.
EVEN = "-even"


def throughput(sample: Sample) -> float:
    """Right answers a second."""
    return sample.throughput


def p50(sample: Sample) -> float:
    """Median latency, ms."""
    return sample.latency_ms["p50"]


def cpu_ms(sample: Sample) -> float:
    """Server CPU a right answer, ms."""
    return sample.cpu_ms


def per_core(sample: Sample) -> float:
    """Right answers a server CPU-second."""
    return sample.per_core


@dataclass(frozen=True, slots=True)
class Comparison:
    """A named number: ours over theirs, or ours minus theirs, round by round."""

    name: str
    ours: str
    theirs: str
    phase: str
    metric: Metric
    difference: bool = False

    def spread(self, runs: Sequence[Run]) -> Spread | None:
        """Median and range over the rounds; None when a side did not take part."""
        pairs = zip(
            series(runs, self.ours, self.phase, self.metric),
            series(runs, self.theirs, self.phase, self.metric),
            strict=False,
        )
        values = [ours - theirs if self.difference else ours / theirs for ours, theirs in pairs]
        return Spread.of(values) if values else None


COMPARISONS = (
    Comparison("compressed_vs_fastapi_throughput", COMPRESSED, FASTAPI, PEAK, throughput),
    Comparison("compressed_vs_fastapi_per_core", COMPRESSED, FASTAPI, PEAK, per_core),
    Comparison("compressed_vs_fastapi_p50", COMPRESSED, FASTAPI, OPEN, p50),
    Comparison("compressed_vs_fastapi_tuned_throughput", COMPRESSED, FASTAPI_TUNED, PEAK, throughput),
    Comparison("compressed_vs_fastapi_onnx_throughput", COMPRESSED, FASTAPI_ONNX, PEAK, throughput),
    Comparison("compressed_vs_fastapi_onnx_per_core", COMPRESSED, FASTAPI_ONNX, PEAK, per_core),
    Comparison("compressed_vs_infinity_throughput", COMPRESSED, INFINITY, PEAK, throughput),
    Comparison("student_vs_fastapi_throughput", STUDENT, FASTAPI, PEAK, throughput),
    Comparison("student_vs_fastapi_per_core", STUDENT, FASTAPI, PEAK, per_core),
    Comparison("student_vs_fastapi_onnx_throughput", STUDENT, FASTAPI_ONNX, PEAK, throughput),
    Comparison("student_vs_infinity_throughput", STUDENT, INFINITY, PEAK, throughput),
    Comparison("triton_vs_inprocess_throughput", COMPRESSED, COMPRESSED_INPROCESS, PEAK, throughput),
    Comparison("triton_vs_inprocess_per_core", COMPRESSED, COMPRESSED_INPROCESS, PEAK, per_core),
    Comparison("triton_vs_inprocess_even_throughput", COMPRESSED, COMPRESSED_INPROCESS + EVEN, PEAK, throughput),
    Comparison("student_triton_vs_inprocess_throughput", STUDENT, STUDENT_INPROCESS, PEAK, throughput),
    Comparison("triton_added_cpu_ms", STUDENT, STUDENT_INPROCESS, PEAK, cpu_ms, difference=True),
    Comparison("triton_added_p50_ms", STUDENT, STUDENT_INPROCESS, SINGLE, p50, difference=True),
    # The peers among themselves, so that the headline can be read beside them.
    Comparison("fastapi_tuned_vs_fastapi_throughput", FASTAPI_TUNED, FASTAPI, PEAK, throughput),
    Comparison("fastapi_onnx_vs_fastapi_throughput", FASTAPI_ONNX, FASTAPI, PEAK, throughput),
    Comparison("infinity_vs_fastapi_throughput", INFINITY, FASTAPI, PEAK, throughput),
)


def ratios_of(runs: Sequence[Run]) -> dict[str, Spread]:
    """Give every comparison whose two sides took part."""
    return {item.name: spread for item in COMPARISONS if (spread := item.spread(runs)) is not None}


def summary(sides: Sequence[Side], runs: Sequence[Run]) -> str:
    """Draw the table: medians, with ranges over the rounds."""

    def cell(side: str, phase: str, metric: Callable[[Sample], float], digits: int) -> str:
        values = series(runs, side, phase, metric)
        return quoted(Spread.of(values), digits) if values else "–"

    header = ["", "answers/s", "per core-second", "CPU ms", "p50 ms open", "p99 ms open", "p50 ms 1 client", "errors"]
    rows = [
        [
            side.name,
            cell(side.name, PEAK, throughput, 1),
            cell(side.name, PEAK, per_core, 1),
            cell(side.name, PEAK, cpu_ms, 2),
            cell(side.name, OPEN, p50, 2),
            cell(side.name, OPEN, lambda sample: sample.latency_ms["p99"], 1),
            cell(side.name, SINGLE, p50, 2),
            str(sum(run.sample.errors for run in runs if run.side == side.name)),
        ]
        for side in sides
    ]
    return table(header, rows)
