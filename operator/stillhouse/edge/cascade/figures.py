"""What one cascade has done, in plain numbers: for metrics, statistics and whoever watches for drift."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from stillhouse.edge.away.breaker import BreakerState
from stillhouse.edge.cascade.answer import NONE
from stillhouse.edge.cascade.away import Way
from stillhouse.edge.cascade.decide import Course

__all__ = ["BINS", "Figures", "families"]

BINS = 20
"""Of the histogram of confidences, of equal width over [0, 1]."""
_STATES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class Figures:
    """Counts of one model.

    `answered`: rows by the leg whose answer stands ("none": they abstained). `rows`, `escalated`, `abstained`: rows; `requests`.
    `away`: requests by the policy that answered. `failed`: calls by leg and code. `asked`, `seconds`: answers of a leg, and
    what they took together. `bins`: the first stage's confidences, rows by twentieths; `unsure`: those that were no number.
    """

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.away: Counter[str] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self.asked: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.requests = self.rows = self.escalated = self.abstained = self.unsure = self.errors = 0
        self.error_seconds = self.request_seconds = 0.0
        self.confidences = 0.0
        self.bins = [0] * BINS

    def confidence(self, values: npt.NDArray[np.float64]) -> None:
        """Count the first stage's confidences."""
        for value in values.tolist():
            if value != value:  # noqa: PLR0124 - NaN
                self.unsure += 1
            else:
                self.bins[min(BINS - 1, max(0, int(value * BINS)))] += 1
                self.confidences += value

    def request(self, course: Course, legs: Sequence[str]) -> None:
        """Count the rows of a request by who answers them; `legs`: names of the stages."""
        self.rows += len(course.by)
        self.escalated += course.escalated
        abstained = int(course.abstained.sum())
        if abstained:
            self.abstained += abstained
            self.answered[NONE] += abstained
        for stage in (course.by[~course.abstained] if abstained else course.by).tolist():
            self.answered[legs[stage]] += 1

    def took(self, leg: str, seconds: float) -> None:
        """Count an answer of a leg."""
        self.asked[leg] += 1
        self.seconds[leg] += seconds


def families(cascades: Mapping[str, tuple[Figures, Iterable[Way]]]) -> Iterator[Metric]:
    """Yield the metrics of cascades: figures and ways by the model's public name."""

    def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"stillhouse_cascade_{name}", text, labels=["model", *labels])

    answered = counter("rows", "Rows by the leg whose answer was given.", "leg")
    escalated = counter("escalated", "Rows that the small model did not answer.")
    abstained = counter("abstained", "Rows that nobody answers: unlike all that the model was made for.")
    away = counter("away", "Requests that a policy answered, because the larger model was not there.", "policy")
    failed = counter("leg_failures", "Calls of a leg that failed.", "leg", "code")
    confidence = HistogramMetricFamily(
        "stillhouse_cascade_confidence", "The small model's confidences, by rows.", labels=["model"]
    )
    asked = counter("leg_answers", "Answers of a leg.", "leg")
    took = counter("leg_seconds", "Seconds that answers of a leg took.", "leg")
    state = GaugeMetricFamily("stillhouse_cascade_breaker", "0 closed, 1 half-open, 2 open.", labels=["model", "leg"])
    opened = counter("breaker_opened", "How often a leg was left alone.", "leg")
    retried = counter("retries", "Calls of a leg beyond the first ones.", "leg", "kind")
    for model, (figures, ways) in sorted(cascades.items()):
        for leg, count in sorted(figures.answered.items()):
            answered.add_metric([model, leg], count)
        escalated.add_metric([model], figures.escalated)
        abstained.add_metric([model], figures.abstained)
        for policy, count in sorted(figures.away.items()):
            away.add_metric([model, policy], count)
        for (leg, code), count in sorted(figures.failed.items()):
            failed.add_metric([model, leg, code], count)
        for leg, count in sorted(figures.asked.items()):
            asked.add_metric([model, leg], count)
            took.add_metric([model, leg], figures.seconds[leg])
        buckets, total = [], 0
        for at, count in enumerate(figures.bins):
            total += count
            buckets.append((f"{(at + 1) / BINS:g}", float(total)))
        buckets.append(("+Inf", float(total)))
        confidence.add_metric([model], buckets, figures.confidences)
        for way in ways:
            state.add_metric([model, way.name], _STATES[way.breaker.state])
            opened.add_metric([model, way.name], way.breaker.opened)
            retried.add_metric([model, way.name, "retry"], way.retrier.retries)
            retried.add_metric([model, way.name, "hedge"], way.retrier.hedges)
    yield from (answered, escalated, abstained, away, failed, confidence, asked, took, state, opened, retried)
