"""What a cascade tells of each answer: to whoever counts the cost, and to the agreement watch. Nothing here waits."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.edge.agreement.watch import Ticket, Watch
from stillhouse.edge.cascade.decide import Course
from stillhouse.edge.cascade.legs import Leg, Rows
from stillhouse.edge.cascade.question import Question
from stillhouse.edge.economics import Usage
from stillhouse.edge.status import Code, RpcError
from stillhouse.inference.signature import Signature

__all__ = ["Observer", "answers_of"]

_log = logging.getLogger(__name__)
Ints = npt.NDArray[np.int64]


class Observer:
    """Counts answers, and has a sample of the small model's compared.

    `beside`: the larger model without retries and breaker, for comparisons; `labels` of a classifier, `names` of an index's rows.
    `signature`: of what is asked, None: texts or images. `watch` None: nothing is compared. `last`: the larger model's stage.
    """

    def __init__(
        self,
        usage: Usage,
        watch: Watch | None,
        beside: Leg,
        *,
        labels: Sequence[str] = (),
        names: Sequence[bytes] = (),
        signature: Signature | None = None,
        last: int = 1,
    ) -> None:
        self.usage, self.watch, self._beside = usage, watch, beside
        self._labels, self._names = tuple(labels), tuple(names)
        self.errors, self._last, self._signature = 0, last, signature

    def answered(self, question: Question, course: Course, body: bytes, *, called: bool, away: bool) -> None:
        """Take an answer that the client is about to get. `called`: the larger model was asked; `away`: in vain."""
        self.usage.count(question.rows, course.escalated, called=called, away=away)
        watch = self.watch
        if watch is None or away:
            return
        try:
            self._watched(watch, question, course, body)
        except Exception:  # the client's answer must not fail by who looks on
            self.errors += 1
            _log.exception("the agreement watch failed")

    def delivered(self, question: Question) -> None:
        """Take a request that was kept: the larger model has answered it now."""
        self.usage.deliver(question.rows)

    def _watched(self, watch: Watch, question: Question, course: Course, body: bytes) -> None:
        key = str(question.request.id)
        confidence = course.first.tolist()  # of the small model, also where a model between was asked
        ticket = watch.answered(confidence, course.escalated, key, body)
        if ticket is not None:
            mine = np.flatnonzero((course.by == 0) & ~course.abstained)
            if len(mine):
                self._compare(watch, replace(ticket, rows=len(mine)), question, course, mine, len(body))
        if watch.collector is not None and course.escalated:
            last = course.parts[-1]
            if last[0] == self._last:  # what a model between says is no truth to learn from
                rows = last[1]
                said = answers_of(last[2], self._labels, self._names)
                watch.keep(self._inputs(question, rows), said, [confidence[row] for row in rows.tolist()], key, body)

    def _compare(self, watch: Watch, ticket: Ticket, question: Question, course: Course, mine: Ints, size: int) -> None:
        first = course.parts[0]
        place = {row: at for at, row in enumerate(first[1].tolist())}
        edge = answers_of(first[2], self._labels, self._names)
        own = [edge[place[row]] for row in mine.tolist()]
        part = question.part(mine)

        async def ask() -> Sequence[str]:
            self.usage.comparisons += 1
            self.usage.compared_rows += len(mine)
            rows = await self._beside.ask(part, math.inf)
            if rows.wrong is not None:
                raise RpcError(Code.INTERNAL, "the larger model's answer has rows that are no probabilities")
            return answers_of(rows, self._labels, self._names)

        keeps = watch.collector is not None
        inputs = self._inputs(question, mine) if keeps else ()
        confidences = [float(course.first[row]) for row in mine.tolist()] if keeps else ()
        watch.compare(ticket, own, ask, size=size, inputs=inputs, confidences=confidences)

    def _inputs(self, question: Question, rows: Ints) -> list[Mapping[str, Any]]:
        """Return inputs as a data source has them: texts, images and windows as numbers, a table's row by its columns."""
        work = question.work
        if isinstance(work, list):
            return [{"text": work[row]} for row in rows.tolist()]
        features = self._signature.features if self._signature else None
        if features is None:
            return [{"image": work[row].ravel().tolist()} for row in rows.tolist()]
        if features.columns:
            return [dict(zip(features.columns, work[row].tolist(), strict=True)) for row in rows.tolist()]
        return [{"features": work[row].tolist()} for row in rows.tolist()]


def answers_of(rows: Rows, labels: Sequence[str], names: Sequence[bytes]) -> list[str]:
    """Return what a leg says of each row: its label, or the name of the nearest row of its index."""
    if labels:
        return [labels[at] for at in rows.values.argmax(axis=1).tolist()]
    assert rows.found is not None  # a cascade of embeddings searches
    return [names[at].decode("utf-8", "replace") for at in rows.found.rows[:, 0].tolist()]
