"""The agreement watch: what the cascade tells it, and what it says.

In the request's path stand `answered` (once an answer is known, before it is returned) and, where that gives a ticket, `compare`;
for rows that were escalated `keep`, where samples are collected. None of them waits, fails, or reads more of a body than a hash
needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stillhouse.edge.agreement.collecting import Collector, Kept
from stillhouse.edge.agreement.sampling import chosen
from stillhouse.edge.agreement.settings import Expected, Settings
from stillhouse.edge.agreement.shadow import Job, Outcome, Shadow
from stillhouse.edge.agreement.verdict import Judge, Verdict, figures
from stillhouse.edge.agreement.window import Bucket, Totals, Window
from stillhouse.inference.drift import Reference

__all__ = ["Observed", "Ticket", "Watch"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that was chosen for a comparison; `rows`: how many of its rows the edge answered."""

    bucket: Bucket
    rows: int


@dataclass(frozen=True, slots=True)
class Observed:
    """A watch at one moment.

    `outcomes`: of comparisons since the process began; `samples`: of what was offered to keep, None: nothing is. `totals` are for
    whoever adds up several processes (`Totals.__add__`, then `figures`).
    """

    verdict: Verdict
    totals: Totals
    outcomes: Mapping[str, int]
    compared_rows: int
    disagreed: int
    waiting: int
    held: bool
    samples: Mapping[str, int] | None = None
    sample_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        samples = None if self.samples is None else {**dict(sorted(self.samples.items())), "bytes": self.sample_bytes}
        return {
            **self.verdict.to_json(),
            "totals": asdict(self.totals) | {"cells": list(self.totals.cells)},
            "comparisons": {
                **dict(sorted(self.outcomes.items())),
                "rows": self.compared_rows,
                "disagreed": self.disagreed,
                "waiting": self.waiting,
                "held": self.held,
            },
            "samples": samples,
        }


class Watch:
    """Watches one cascade.

    `now`: the running loop's clock. `reference`, `expected`: of the cascade's artifact; what is None is not asked. `held()`:
    whether the cloud must not be asked beside requests (the breaker is not closed, or it is overloaded). `on_change(verdict)`:
    told of every change of its state or reasons. `collector`: where samples go, None: nowhere.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], float],
        reference: Reference | None = None,
        expected: Expected | None = None,
        held: Callable[[], bool] = lambda: False,
        collector: Collector | None = None,
        on_change: Callable[[Verdict], None] | None = None,
    ) -> None:
        self._settings, self._now, self._on_change = settings, now, on_change
        self._reference, self.collector = reference, collector
        bounds = settings.bounds
        self._window = Window(bounds.window, bounds.buckets, len(reference.cells) if reference else 0)
        self._judge = Judge(bounds, reference, expected)
        self.shadow = Shadow(settings.sampling, now, held)
        self.requests = self.compared = self.compared_rows = self.disagreed = 0
        self.verdict = self._judge.look(self.totals(), (0, 0))

    def answered(self, confidences: Iterable[float], escalated: int, key: str, body: bytes = b"") -> Ticket | None:
        """Count an answered request; a ticket where its edge-answered rows are to be compared.

        `confidences`: of all rows, NaN for an abstention; `escalated`: how many of them the larger model answered. `key`: the
        request's id or idempotency key, `body` its bytes. Requests that policy `answer` answered while the cloud was away are not
        told: their answers are flagged, and were not chosen by the threshold.
        """
        bucket = self._window.bucket(self._now())
        rows = 0
        if self._reference is None:
            rows = sum(1 for _ in confidences)
        else:
            place, cells = self._reference.place, bucket.cells
            for each in confidences:
                cells[place(each)] += 1
                rows += 1
        answered = max(0, rows - escalated)
        self.requests += 1
        bucket.requests += 1
        bucket.rows += rows
        bucket.squares += rows * rows
        bucket.answered += answered
        sampling = self._settings.sampling
        if not answered or not chosen(sampling.share, sampling.salt, key, body):
            return None
        return Ticket(bucket, answered)

    def compare(
        self,
        ticket: Ticket,
        mine: Sequence[str],
        ask: Callable[[], Awaitable[Sequence[str]]],
        *,
        size: int,
        inputs: Sequence[Mapping[str, Any]] = (),
        confidences: Sequence[float] = (),
    ) -> None:
        """Have the edge's answers `mine` (labels, or best names; of the edge-answered rows) compared later.

        `ask()` sends these rows to the larger model and gives its answers in their order. It must neither retry nor tell the
        breaker what became of it. `size`: bytes that are kept alive until then. `inputs` (role → text or numbers, as a data
        source has them) and `confidences` of the same rows are for the collector, and may be left out where there is none.
        """

        def done(answers: Sequence[str] | None, outcome: Outcome) -> None:
            bucket = ticket.bucket
            bucket.chosen += ticket.rows
            if answers is None:
                return
            if len(answers) != len(mine):
                raise ValueError(f"{len(answers)} answers for {len(mine)} rows")
            alike = [one == other for one, other in zip(mine, answers, strict=True)]
            bucket.compared += len(mine)
            bucket.compared_squares += len(mine) ** 2
            bucket.agreed += sum(alike)
            self.compared += 1
            self.compared_rows += len(mine)
            self.disagreed += len(mine) - sum(alike)
            if self.collector is not None:
                for same, row, answer, confidence in zip(alike, inputs, answers, confidences, strict=False):
                    if not same:
                        self.collector.offer(Kept(row, answer, confidence, "edge"))

        self.shadow.offer(Job(ask, done, size))

    def keep(
        self,
        inputs: Sequence[Mapping[str, Any]],
        answers: Sequence[str],
        confidences: Sequence[float],
        key: str,
        body: bytes = b"",
    ) -> None:
        """Offer escalated rows with the larger model's answers as samples; nothing happens where none are collected."""
        collecting, sampling = self._settings.collecting, self._settings.sampling
        if self.collector is None or collecting is None:
            return
        if chosen(collecting.escalated, f"{sampling.salt}keep", key, body):
            for row, answer, confidence in zip(inputs, answers, confidences, strict=False):
                self.collector.offer(Kept(row, answer, confidence, "cloud"))

    def totals(self) -> Totals:
        """Return the window's sums."""
        return self._window.totals(self._now())

    def observed(self) -> Observed:
        """Return what there is to see; the verdict is that of the last look, its figures are of now."""
        totals, shadow, collector = self.totals(), self.shadow, self.collector
        return Observed(
            replace(self.verdict, figures=figures(totals, self._reference)),
            totals,
            dict(shadow.outcomes),
            self.compared_rows,
            self.disagreed,
            shadow.waiting,
            shadow.held,
            dict(collector.outcomes) if collector is not None else None,
            collector.samples.size if collector is not None else 0,
        )

    def look(self) -> Verdict:
        """Judge the window now. `run` does so regularly."""
        before, self.verdict = self.verdict, self._judge.look(self.totals(), (self.requests, self.compared))
        changed = before.state is not self.verdict.state or _types(before) != _types(self.verdict)
        if changed and self._on_change is not None:
            self._on_change(self.verdict)
        return self.verdict

    async def run(self) -> None:
        """Compare, judge and write samples until cancelled. Start one task with it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.shadow.run())
            group.create_task(self._looking())
            if self.collector is not None:
                group.create_task(self.collector.run())

    async def _looking(self) -> None:
        while True:
            await asyncio.sleep(self._settings.bounds.every)
            self.look()


def _types(verdict: Verdict) -> list[str]:
    return [reason.type for reason in verdict.reasons]
