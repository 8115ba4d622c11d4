"""A model that is a cascade: asked as one model, answered by the first leg that is sure enough."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from stillhouse.edge.away.deadlines import Deadlines
from stillhouse.edge.away.records import QueueError
from stillhouse.edge.cascade.about import About
from stillhouse.edge.cascade.answer import NONE, Composer, Told
from stillhouse.edge.cascade.away import AwaySettings, Way, is_away, refusal
from stillhouse.edge.cascade.decide import NOBODY, Course, Unsure
from stillhouse.edge.cascade.figures import Figures
from stillhouse.edge.cascade.later import KEY, Later
from stillhouse.edge.cascade.legs import Leg, Rows
from stillhouse.edge.cascade.observing import Observer
from stillhouse.edge.cascade.policy import Policy
from stillhouse.edge.cascade.question import EMBEDDING, Question, Reader
from stillhouse.edge.cascade.remote import RemoteLeg
from stillhouse.edge.onward import left_of, onward
from stillhouse.edge.status import Code, Metadata, Refused, Reply, RpcError
from stillhouse.edge.tracing.spans import Span
from stillhouse.edge.wire.call import Call
from stillhouse.errors import UsageError
from stillhouse.inference.signature import Signature

__all__ = ["Cascade", "CascadeSettings", "Stage"]

_DELIVERY_S = 60.0
"""How long the larger model may take for a request that was kept."""
_MS = 1000
_TELL_S = 60.0
"""Between two lines of the log on why the larger model is away."""
_log = logging.getLogger(__name__)
_UNTRACED = nullcontext()


@dataclass(frozen=True, slots=True)
class Stage:
    """A leg, and when its answer stands; the last one has no policy: it has the last word."""

    leg: Leg
    policy: Policy | None


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """`unsure`: what becomes of unusual inputs. `most_rows`: of a request (the wire contract's n)."""

    unsure: Unsure = "escalate"
    most_rows: int = 32
    away: AwaySettings = field(default_factory=AwaySettings)


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
        self._stages, self._later, self._who, self._clock = tuple(stages), later, who, clock
        self.observer = observer
        self._tell_again = -math.inf
        first = _checked(self._stages, signature, self.settings, later)
        self._reader = Reader(signature, self.settings.most_rows, searched=first.edge is not None)
        self._composer = Composer(
            model, signature.labels, [each.leg for each in stages], [each.policy for each in stages], first.k
        )
        # Between each stage and the next one the time is shared by what both took lately.
        self._pairs = [
            Deadlines(self.settings.away.deadlines, edge=one.leg.latencies, cloud=next_.leg.latencies, clock=clock)
            for one, next_ in zip(self._stages, self._stages[1:], strict=False)
        ]
        widths = {each.policy.edge.dimension for each in stages if each.policy is not None and each.policy.edge is not None}
        widths |= {
            each.policy.larger.dimension for each in stages[-2:-1] if each.policy is not None and each.policy.larger is not None
        }
        width = len(signature.labels) or (signature.dimension if len(widths) <= 1 else -1)
        self._about = About(
            model,
            signature,
            self._reader,
            width=width,
            k=first.k,
            most_rows=self.settings.most_rows,
            variant=first.variant,
            digest=first.digest,
            threshold=first.threshold,
            legs=tuple(each.leg.name for each in stages),
        )
        if later is not None:
            last = stages[-1].leg
            later.join(model, self._deliver, (lambda: last.breaker.retry_in) if isinstance(last, Way) else (lambda: 0.0))

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
        if self._later is not None and (key := _key(call)) is not None:
            known = await self._later.known(self._who(call), key, body)
            if known is not None:
                return known
        deadline = self._pairs[0].start(left_of(call))
        course = Course(question.rows, together=EMBEDDING in question.outputs)
        told = Told()
        away = await self._walk(question, course, told, deadline, call.span)
        if away is not None:
            await self._answer_for(away, call, body, told)
        if question.trace:
            told.trace["total_ms"] = (self._clock() - begun) * _MS
        message = self._composer.written(question, course, told)
        self._count(course)
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

    async def _answer_for(self, error: RpcError, call: Call, body: bytes, told: Told) -> None:
        """Do what the policy says, in the place of a leg that is away."""
        now = self._clock()
        if now >= self._tell_again and not isinstance(error, Refused):  # a breaker that refuses is not why
            self._tell_again = now + _TELL_S
            _log.warning("%s does not answer: %s", self._stages[-1].leg.variant, error)
        policy = self.settings.away.policy
        if policy == "fail":
            self.figures.away["fail"] += 1
            last = self._stages[-1].leg
            raise refusal(error, last.breaker.retry_in if isinstance(last, Way) else 0.0)
        told.away = "answer"
        if policy == "queue":
            assert self._later is not None  # looked at when the cascade was built
            try:
                kept = await self._later.keep(self._who(call), _key(call), body)
            except QueueError as refused:
                if refused.code == Code.ALREADY_EXISTS:
                    raise
                # Full, or the disk fails: nothing is promised then, and what there is of an answer is given all the same.
                self.figures.away["queue_refused"] += 1
                return
            told.away, told.queued = "queue", kept.key
        self.figures.away[told.away] += 1

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

    def _count(self, course: Course) -> None:
        figures = self.figures
        figures.rows += len(course.by)
        figures.escalated += course.escalated
        abstained = int(course.abstained.sum())
        if abstained:
            figures.abstained += abstained
            figures.answered[NONE] += abstained
        for stage in (course.by[~course.abstained] if abstained else course.by).tolist():
            figures.answered[self._stages[stage].leg.name] += 1


def _no_answer(leg: str, course: Course) -> RpcError:
    return RpcError(Code.INTERNAL, f"{leg}: {len(course.pending)} rows of its answer are no probabilities")


def _key(call: Call) -> str | None:
    value = call.header(KEY)
    return None if value is None else value.decode("latin-1")


def _checked(stages: tuple[Stage, ...], signature: Signature, settings: CascadeSettings, later: Later | None) -> Policy:
    """Return the first stage's policy, once the stages are found to belong together."""

    def wrong(field_: str, found: object, allowed: str) -> UsageError:
        return UsageError("the stages make no cascade", field=field_, found=str(found), allowed=allowed)

    if len(stages) < 2 or stages[-1].policy is not None or any(each.policy is None for each in stages[:-1]):
        raise wrong("stages", len(stages), "two or more, each with a cascade but the last one")
    names = [each.leg.name for each in stages]
    if len(set(names)) != len(names) or {NONE, "mixed"} & set(names):
        raise wrong("stages: names", ", ".join(names), f"all different, none of them {NONE} or mixed")
    for at, stage in enumerate(stages[:-1]):
        policy, leg = stage.policy, stage.leg
        assert policy is not None
        if policy.task != signature.task:
            raise wrong(f"stages[{at}].task", policy.task, signature.task)
        if leg.digest != policy.digest:
            raise wrong(f"stages[{at}].digest", leg.digest, f"{policy.digest}: a calibration belongs to one model")
        if policy.needs_logits and not leg.gives_logits:
            raise wrong(f"stages[{at}].outliers.kind", "energy", "a leg that gives logits: the model in this process")
    if settings.away.policy == "queue" and later is None:
        raise wrong("away.policy", "queue", "a file for the queue beside it")
    first = stages[0].policy
    assert first is not None
    return first
