"""The small model in this process: ONNX Runtime in a few threads, the rows that wait in one batch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.cascade.batches import Batches, Submit
from stillhouse.edge.cascade.legs import Rows
from stillhouse.edge.cascade.question import Question, Work, said
from stillhouse.edge.cascade.search import Index
from stillhouse.edge.economics import Usage
from stillhouse.edge.status import Code, RpcError
from stillhouse.errors import DataError, SourceError
from stillhouse.inference.confidence import Neighbours
from stillhouse.inference.engine import Engine
from stillhouse.inference.postprocess import softmax
from stillhouse.inference.signature import Signature

__all__ = ["EngineLeg", "EngineSettings"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The model in this process. `workers` batches of up to `most_rows` rows run at once, each on `threads` threads.

    `waiting`: rows that may wait; what comes beyond is refused, and the cloud answers it.
    """

    variant: str = ""
    threads: int = 1
    workers: int = 1
    most_rows: int = 32
    waiting: int = 256


class EngineLeg:
    """The small model in this process. `index`: what its embeddings are looked up in."""

    gives_logits = True

    def __init__(
        self,
        folder: Path,
        digest: str,
        settings: EngineSettings | None = None,
        *,
        index: Index | None = None,
        name: str = "edge",
        clock: Callable[[], float] = time.monotonic,
        submit: Submit | None = None,
    ) -> None:
        """Load the model of a folder (`model.onnx`, `signature.json`, `tokenizer.json`); `digest` is its artifact's.

        Raises:
            SourceError: the folder is damaged, or the index is not of its embeddings.
        """
        self.settings = settings or EngineSettings()
        self.engine = Engine(folder, self.settings.threads, apart=True)
        self.name, self.variant, self.digest = name, self.settings.variant, digest
        self.latencies = Quantiles(clock=clock)
        if index is not None and index.dimension != self.engine.signature.dimension:
            raise SourceError(
                "the index is of another model's embeddings",
                field="edge.npy",
                found=f"dimension {index.dimension}",
                allowed=str(self.engine.signature.dimension),
                fix="build the model again: still rebuild NAME",
            )
        self._index, self._clock = index, clock
        self.usage = Usage()
        """Counts the CPU of inferences; that of the gateway takes its place once it is warm."""
        self.batches: Batches[tuple[Work, bool], Rows] = Batches(
            self._run,
            ThreadPoolExecutor(self.settings.workers, thread_name_prefix="model"),
            at_once=self.settings.workers,
            most=self.settings.most_rows,
            waiting=self.settings.waiting,
            submit=submit,
            clock=clock,
        )

    @property
    def signature(self) -> Signature:
        """Return what the model takes and gives."""
        return self.engine.signature

    @property
    def ready(self) -> bool:
        """Return True: the model is loaded."""
        return True

    def warm_up(self) -> None:
        """Run a few made-up inputs, so that the first request is not the slow one."""
        self.engine.warm_up(1)

    async def ask(self, question: Question, until: float) -> Rows:
        """Answer; see `Leg`."""
        work = question.work, question.provenance
        begun = self._clock()
        try:
            ran = await self.batches.ask(work, question.rows, None if until == math.inf else until - begun)
        except RpcError as error:
            if error.code == Code.DEADLINE_EXCEEDED:
                self.latencies.add(self._clock() - begun)
            raise
        except Exception as error:  # ONNX Runtime has one class per status, without a common base
            _log.exception("the model failed")
            raise RpcError(Code.INTERNAL, f"the model here failed: {error}"[:500]) from error
        rows = ran.result
        rows.waited_s, rows.ran_s, rows.batch = ran.waited_s, ran.ran_s, ran.batch
        self.latencies.add(ran.waited_s + ran.ran_s)
        return rows

    async def close(self) -> None:
        """Take no more, and end."""
        await self.batches.close()

    def _run(self, works: Sequence[tuple[Work, bool]]) -> list[Rows | Exception]:
        """Run a batch, in a thread. Of each: what the model takes, and whether its answer says how much was cut off."""
        with self.usage.leg():
            return self._ran(works)

    def _ran(self, works: Sequence[tuple[Work, bool]]) -> list[Rows | Exception]:
        found: list[Rows | Exception] = [_DROPPED] * len(works)
        ready: list[tuple[int, Any]] = []
        for at, (work, _) in enumerate(works):
            try:
                ready.append((at, work if isinstance(work, list) else self.engine.prepare_arrays(work)))
            except DataError as error:
                found[at] = RpcError(Code.INVALID_ARGUMENT, said(error))
        if not ready:
            return found
        cut: Sequence[int] | None = None
        if self.engine.is_text:
            result = self.engine.raw_texts([text for _, texts in ready for text in texts], count=any(count for _, count in works))
            raw, cut = result.values, result.cut
        else:
            raw = self.engine.raw_arrays(np.concatenate([each for _, each in ready]) if len(ready) > 1 else ready[0][1])
        logits = None if self.signature.task == "sentence-embedding" else raw
        values = raw if logits is None else softmax(logits)
        near = None if self._index is None else self._index.search(values)
        start = 0
        for at, work in ready:
            span = slice(start, start + len(work))
            found[at] = Rows(
                values[span],
                None if logits is None else logits[span],
                None if near is None else Neighbours(near.scores[span], near.rows[span]),
                None if cut is None else cut[span],
            )
            start = span.stop
        return found


_DROPPED = RpcError(Code.INTERNAL, "the batch gave no answer to this request")
