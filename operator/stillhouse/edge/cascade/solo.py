"""A model in this process and nobody beyond it: a gateway without a cascade on a machine that has no server of the model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from stillhouse.edge.away.deadlines import Deadlines
from stillhouse.edge.cascade.about import About
from stillhouse.edge.cascade.answer import Composer, Told
from stillhouse.edge.cascade.decide import Course
from stillhouse.edge.cascade.engine import EngineLeg
from stillhouse.edge.cascade.figures import Figures
from stillhouse.edge.cascade.question import Reader
from stillhouse.edge.cascade.stages import CascadeSettings
from stillhouse.edge.cut import CutLeg
from stillhouse.edge.economics import Usage
from stillhouse.edge.onward import left_of, onward
from stillhouse.edge.status import Reply, RpcError
from stillhouse.edge.wire.call import Call

__all__ = ["Solo"]

_MS = 1000


class Solo:
    """Answers a model by one leg. `clock`: that of the leg."""

    def __init__(
        self,
        model: str,
        leg: EngineLeg | CutLeg,
        settings: CascadeSettings | None = None,
        usage: Usage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.figures, self._leg, self._clock = Figures(), leg, clock
        self._usage = usage or Usage()
        self._calls = isinstance(leg, CutLeg)  # each of its answers is a call of a server
        settings = settings or CascadeSettings()
        signature = leg.signature
        self._reader = Reader(signature, settings.most_rows, searched=False)
        self._composer = Composer(model, signature.labels, [leg], [None], 0)
        self._deadlines = Deadlines(settings.away.deadlines, edge=leg.latencies, clock=clock)
        self._about = About(
            model,
            signature,
            self._reader,
            width=len(signature.labels) or signature.dimension,
            k=0,
            most_rows=settings.most_rows,
            variant=leg.variant,
            digest=leg.digest,
            threshold=-math.inf,
            legs=(leg.name,),
        )

    @property
    def ready(self) -> bool:
        """Return whether it can answer."""
        return self._leg.ready

    async def infer(self, call: Call, body: bytes) -> Reply:
        """Answer an inference.

        Raises:
            RpcError: the request is wrong, or the model did not answer.
        """
        begun = self._clock()
        try:
            question = self._reader.read(body, onward(call))
            deadline = self._deadlines.start(left_of(call))
            left = self._deadlines.cloud_timeout(deadline)
            rows = await self._leg.ask(question, math.inf if left is None else begun + left)
        except RpcError:
            self.figures.errors += 1
            self.figures.error_seconds += self._clock() - begun
            raise
        course, told = Course(question.rows, together=False), Told()
        course.take(0, rows, None, "escalate")
        course.escalated = 0
        if question.trace:
            told.trace |= {f"{self._leg.name}_ms": rows.ran_s * _MS, "queue_ms": rows.waited_s * _MS, "batch": rows.batch}
            told.trace["total_ms"] = (self._clock() - begun) * _MS
        figures = self.figures
        figures.took(self._leg.name, rows.waited_s + rows.ran_s)
        figures.rows += question.rows
        figures.answered[self._leg.name] += question.rows
        figures.requests += 1
        figures.request_seconds += self._clock() - begun
        self._usage.count(question.rows, question.rows if self._calls else 0, called=self._calls)
        return Reply(self._composer.written(question, course, told))

    async def about(self, call: Call, body: bytes) -> Reply:
        """Answer `ModelReady`, `ModelMetadata`, `ModelConfig`, `ModelStatistics`.

        Raises:
            RpcError: it is none of these, or of another version.
        """
        return Reply(self._about.answer(call.method, body, ready=self.ready, figures=self.figures))

    async def close(self) -> None:
        """End the leg."""
        await self._leg.close()
