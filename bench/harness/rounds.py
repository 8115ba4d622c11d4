"""Interleaved rounds: A B C A B C …, so that a machine that drifts drifts under every side alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.load import Mode, Sample
from bench.harness.quiet import QUIET_SHARE
from bench.harness.sides import Side
from stillhouse.passes.evaluate.intervals import Interval

ROUNDS = 5
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt. `kept`: it stands for its round; `quiet`: other processes stayed under the limit."""

    side: str
    phase: str
    round: int
    attempt: int
    kept: bool
    quiet: bool
    sample: Sample

    def to_json(self) -> dict[str, object]:
        """For the result file."""
        return {
            "side": self.side,
            "phase": self.phase,
            "round": self.round,
            "attempt": self.attempt,
            "kept": self.kept,
            "quiet": self.quiet,
            **self.sample.to_json(),
        }


def one_round(side: Side, measure: Callable[[], Sample], phase: str, number: int, repeats: int = REPEATS) -> list[Run]:
    """Measure until it is quiet, at most `repeats` times more; else the quietest attempt is kept, and marked."""
    samples: list[Sample] = []
    while len(samples) <= repeats:
        samples.append(measure())
        if samples[-1].foreign_share <= QUIET_SHARE:
            break
    best = min(range(len(samples)), key=lambda index: samples[index].foreign_share)
    return [
        Run(side.name, phase, number, attempt, attempt == best, sample.foreign_share <= QUIET_SHARE, sample)
        for attempt, sample in enumerate(samples)
    ]


def rounds(
    sides: Sequence[Side],
    mode: Mode,
    texts: Path,
    phase: str,
    *,
    count: int = ROUNDS,
    repeats: int = REPEATS,
    say: Callable[[Run], None] | None = None,
) -> list[Run]:
    """Measure every side once in each of `count` rounds, in the same order.

    Returns:
        Every attempt; `kept` picks one per side and round.
    """
    runs: list[Run] = []
    for number in range(count):
        for side in sides:

            def measure(side: Side = side) -> Sample:
                return side.measure(mode, texts)

            attempts = one_round(side, measure, phase, number, repeats)
            runs.extend(attempts)
            if say is not None:
                for run in attempts:
                    say(run)
    return runs


Metric = Callable[[Sample], float]


def series(runs: Sequence[Run], side: str, phase: str, metric: Metric) -> list[float]:
    """List the kept values of one side in the order of rounds."""
    return [metric(run.sample) for run in runs if run.kept and run.side == side and run.phase == phase]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range over rounds, or an estimate and its interval."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def around(cls, value: Interval) -> Spread:
        """Of an estimate, with its interval in place of a range."""
        return cls(value.estimate, value.low, value.high)
