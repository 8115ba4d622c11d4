"""A model that is a cascade: asked as one model, answered by the first leg that is sure enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np

from stillhouse.edge.away.deadlines import Deadlines
from stillhouse.edge.cascade.about import About
from stillhouse.edge.cascade.absence import Absence
from stillhouse.edge.cascade.answer import Composer, Told
from stillhouse.edge.cascade.away import Way, is_away
from stillhouse.edge.cascade.decide import NOBODY, Course
from stillhouse.edge.cascade.figures import Figures
from stillhouse.edge.cascade.later import Later
from stillhouse.edge.cascade.legs import Rows
from stillhouse.edge.cascade.observing import Observer
from stillhouse.edge.cascade.question import EMBEDDING, Question, Reader
from stillhouse.edge.cascade.remote import RemoteLeg
from stillhouse.edge.cascade.stages import CascadeSettings, Stage, checked, width_of
from stillhouse.edge.onward import left_of, onward
from stillhouse.edge.status import Code, Metadata, Reply, RpcError
from stillhouse.edge.tracing.spans import Span
from stillhouse.edge.wire.call import Call
from stillhouse.inference.signature import Signature

__all__ = ["Cascade"]

_DELIVERY_S = 60.0
"""How long the larger model may take for a request that was kept."""
_MS = 1000
_UNTRACED = nullcontext()


class Cascade:
    """Two stages or more under one public name. Where `Service` has a pool for other models, it has this one.

    `signature`: of the first stage's model, which the public model looks like. A leg that is reached over a network is a `Way`.
    `observer`: told of each answer.
    `who`: names a call's client (`Door.client`); asked for where a request is kept. `later`: needed by policy `queue`.
    `clock`: that of the legs.
    """

    def __init__(
        self,
        model: str,
        signature: Signature,
        stages: Sequence[Stage],
        settings: CascadeSettings | None = None,
        *,
        later: Later | None = None,
        observer: Observer | None = None,
        who: Callable[[Call], str] = lambda call: call.peer.address,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Join the stages.

        Raises:
            UsageError: they do not belong together.
        """
        self.model, self.settings, self.figures = model, settings or CascadeSettings(), Figures()
        self._stages, self._clock = tuple(stages), clock
        self._names = tuple(each.leg.name for each in stages)
        self.observer = observer
        first = checked(self._stages, signature, self.settings, queue=later is not None)
        last = stages[-1].leg
        self._absence = Absence(self.settings.away.policy, last, later, self.figures, who, clock)
        self._reader = Reader(signature, self.settings.most_rows, searched=first.edge is not None)
        self._composer = Composer(
            model, signature.labels, [each.leg for each in stages], [each.policy for each in stages], first.k
        )
        # Between each stage and the next one the time is shared by what both took lately.
        self._pairs = [
            Deadlines(self.settings.away.deadlines, edge=one.leg.latencies, cloud=next_.leg.latencies, clock=clock)
            for one, next_ in zip(self._stages, self._stages[1:], strict=False)
        ]
        self._about = About(
            model,
            signature,
            self._reader,
            width=width_of(stages, signature),
            k=first.k,
            most_rows=self.settings.most_rows,
            variant=first.variant,
            digest=first.digest,
            threshold=first.threshold,
            legs=self._names,
        )
        if later is not None:
            later.join(model, self._deliver, lambda: self._absence.retry_in)

    @property
    def ready(self) -> bool:
        """Return whether any leg can answer."""
        return any(each.leg.ready for each in self._stages)

    @property
    def larger(self) -> tuple[str, str] | None:
        """Return what is known of the last leg's labels, and why it is not used; None where it is not asked."""
        last = self._stages[-1].leg
        leg = last.leg if isinstance(last, Way) else last
        labels = leg.labels if isinstance(leg, RemoteLeg) else None
        return None if labels is None else (labels.state, labels.trouble)

    @property
    def served(self) -> str | None:
        """Return the digest of the first leg's server where it is not the calibration's; None: it is, or nobody told."""
        first = self._stages[0].leg
        return (first.served or None) if isinstance(first, RemoteLeg) else None

    @property
    def ways(self) -> tuple[Way, ...]:
        """Return the legs that have a breaker, for metrics and the status."""
        return tuple(each.leg for each in self._stages if isinstance(each.leg, Way))

    async def about(self, call: Call, body: bytes) -> Reply:
        """Answer `ModelReady`, `ModelMetadata`, `ModelConfig`, `ModelStatistics`.

        Raises:
            RpcError: it is none of these, or of another version.
        """
        return Reply(self._about.answer(call.method, body, ready=self.ready, figures=self.figures))

    async def infer(self, call: Call, body: bytes) -> Reply:
        """Answer an inference.

        Raises:
            RpcError: the request is wrong, no leg answered, or the policy is to fail.
        """
        begun = self._clock()
        try:
            reply = await self._infer(call, body, begun)
        except RpcError:
            self.figures.errors += 1
            self.figures.error_seconds += self._clock() - begun
            raise
        self.figures.requests += 1
        self.figures.request_seconds += self._clock() - begun
        return reply

    async def close(self) -> None:
        """End the legs. The queue is the process's, and closes for itself."""
        for each in self._stages:
            await each.leg.close()

    async def _infer(self, call: Call, body: bytes, begun: float) -> Reply:
        question = self._reader.read(body, onward(call))
        known = await self._absence.known(call, body)
        if known is not None:
            return known
        deadline = self._pairs[0].start(left_of(call))
        course = Course(question.rows, together=EMBEDDING in question.outputs)
        told = Told()
        away = await self._walk(question, course, told, deadline, call.span)
        if away is not None:
            await self._absence.answer(away, call, body, told)
        if question.trace:
            told.trace["total_ms"] = (self._clock() - begun) * _MS
        message = self._composer.written(question, course, told)
        self.figures.request(course, self._names)
        if self.observer is not None:
            called = any(part[0] == len(self._stages) - 1 for part in course.parts)
            self.observer.answered(question, course, body, called=called or away is not None, away=away is not None)
        return Reply(message)

    async def _walk(
        self, question: Question, course: Course, told: Told, deadline: float, span: Span | None = None
    ) -> RpcError | None:
        """Ask stage after stage; return why the last one did not answer, None where it did or was not needed.

        Raises:
            RpcError: a stage does not want the request; or rows have no answer at all.
        """
        error: RpcError | None = None
        for at, stage in enumerate(self._stages):
            leg = stage.leg
            error = None
            begun = self._clock()
            try:
                part = question.part(course.pending)
                with _UNTRACED if span is None else span.leg(leg.name, remote=isinstance(leg, Way)) as hop:
                    if hop is not None:
                        part.metadata = hop.onward(part.metadata)
                    rows = await leg.ask(part, self._until(at, deadline))
            except RpcError as ended:
                self.figures.failed[leg.name, ended.code.name] += 1
                if not is_away(ended):
                    raise
                error = ended
                if at == 0:
                    told.edge_error = ended.code.name
                continue
            finally:
                if question.trace:
                    told.trace[f"{leg.name}_ms"] = (self._clock() - begun) * _MS
            if question.trace and rows.batch:
                told.trace["queue_ms"], told.trace["batch"] = rows.waited_s * _MS, rows.batch
            self._taken(at, stage, course, rows)
            if not len(course.pending):
                return None
        if error is None and len(course.pending):
            last = self._stages[-1].leg.name
            error = _no_answer(last, course)
            self.figures.failed[last, error.code.name] += 1
        if error is not None and (course.by == NOBODY).any():
            raise error
        return error

    def _until(self, at: int, deadline: float) -> float:
        """Return when a stage must have answered: so that the next one still can, or the last one's answer still travels."""
        if at < len(self._pairs):
            return self._pairs[at].legs(deadline).edge_until
        left = self._pairs[-1].cloud_timeout(deadline)
        return math.inf if left is None else self._clock() + left

    def _taken(self, at: int, stage: Stage, course: Course, rows: Rows) -> None:
        asked = course.pending
        course.take(at, rows, stage.policy, self.settings.unsure)
        if self.settings.unsure == "refuse" and course.outside.any():
            wrong = ", ".join(map(str, np.flatnonzero(course.outside)[:8].tolist()))
            raise RpcError(Code.INVALID_ARGUMENT, f"rows {wrong}: unlike all that the model was made for")
        self.figures.took(stage.leg.name, rows.waited_s + rows.ran_s)
        if at == 0:
            self.figures.confidence(course.confidence[asked])

    async def _deliver(self, body: bytes, metadata: Metadata) -> bytes:
        """Answer a request that was kept: the last leg alone, all rows."""
        question = self._reader.read(body, metadata)
        course = Course(question.rows, together=False)
        last = self._stages[-1].leg
        until = self._clock() + _DELIVERY_S
        rows = await (last.once(question, until) if isinstance(last, Way) else last.ask(question, until))
        course.take(len(self._stages) - 1, rows, None, self.settings.unsure)
        if len(course.pending):
            raise _no_answer(last.name, course)
        if self.observer is not None:
            self.observer.delivered(question)
        return self._composer.written(question, course, Told())


def _no_answer(leg: str, course: Course) -> RpcError:
    return RpcError(Code.INTERNAL, f"{leg}: {len(course.pending)} rows of its answer are no probabilities")
