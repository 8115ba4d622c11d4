"""A model in two halves as a leg: texts become activations here, and answers where the upper half is served."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.cascade.legs import Rows
from stillhouse.edge.cascade.question import Question, said
from stillhouse.edge.cascade.remote import INFER, Backends
from stillhouse.edge.economics import Usage
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import add_input, outputs_of
from stillhouse.edge.status import Code, RpcError
from stillhouse.errors import DataError, SourceError
from stillhouse.inference.datatypes import Tensor
from stillhouse.inference.feed import text_feeds
from stillhouse.inference.halves import HalfSession, packed
from stillhouse.inference.postprocess import softmax
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE, TextEncoder

__all__ = ["CutLeg", "CutSettings"]

_REQUEST, _RESPONSE = message("ModelInferRequest"), message("ModelInferResponse")
_OF_OURS = {Code.INVALID_ARGUMENT: Code.INTERNAL, Code.NOT_FOUND: Code.UNAVAILABLE, Code.UNIMPLEMENTED: Code.INTERNAL}
"""What the upper half's server says → what that is to a client, whose request was right."""


@dataclass(frozen=True, slots=True)
class CutSettings:
    """`upper`: what the server calls the upper half. `most_rows` of one run, here and there."""

    upper: str
    variant: str = ""
    threads: int = 1
    most_rows: int = 32


@dataclass(slots=True)
class _Made:
    """Requests for the upper half: which rows of the question each has. `cut`: tokens left out of each text."""

    runs: list[tuple[list[int], bytes]]
    cut: list[int]


class CutLeg:
    """The lower half in this process, the upper one behind `backends`. Its rows are both halves' ("mixed")."""

    gives_logits = True
    name = "mixed"

    def __init__(
        self,
        folder: Path,
        digest: str,
        settings: CutSettings,
        backends: Backends,
        *,
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the lower half of a folder (`lower.onnx`, `cut.json`, `signature.json`, `tokenizer.json`).

        Raises:
            SourceError: the folder is damaged, or its model takes no texts.
        """
        self.settings, self.variant, self.digest = settings, settings.variant, digest
        self.signature = Signature.read(folder)
        if not self.signature.takes_texts:
            raise SourceError("a cut model takes texts", field="signature.json: task", found=self.signature.task)
        self._half = HalfSession(folder, "lower", settings.threads)
        self._encoder = TextEncoder(folder / TOKENIZER_FILE, self.signature.max_length, self.signature.tokenizer_digest)
        self._backends, self._ready, self._clock = backends, ready, clock
        self._width = len(self.signature.labels) or self.signature.dimension
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="lower")
        self.latencies = Quantiles(clock=clock)
        self.usage = Usage()

    @property
    def ready(self) -> bool:
        """Return whether there is a server of the upper half."""
        return self._ready()

    def warm_up(self) -> None:
        """Run a made-up text through the lower half.

        Raises:
            SourceError: it does not run.
        """
        try:
            self._make(["warm"])
        except Exception as error:  # ONNX Runtime has one class per status, without a common base
            raise SourceError(
                "the lower half does not run",
                field="lower.onnx",
                found=str(error)[:500],
                fix="build the model again: still rebuild NAME",
            ) from error

    async def ask(self, question: Question, until: float) -> Rows:
        """Answer; see `Leg`."""
        begun = self._clock()
        left = None if until == math.inf else until - begun
        if left is not None and left <= 0:
            raise RpcError(Code.DEADLINE_EXCEEDED, "there is no time left to ask the upper half")
        work = question.work
        assert isinstance(work, list)  # the signature has no image
        try:
            async with asyncio.timeout(left):
                made = await asyncio.get_running_loop().run_in_executor(self._threads, self._make, work)
                values = np.empty((len(work), self._width), np.float32)
                async with asyncio.TaskGroup() as group:
                    for rows, body in made.runs:
                        group.create_task(self._fill(values, rows, body, question, until))
        except TimeoutError:
            self.latencies.add(self._clock() - begun)
            raise RpcError(Code.DEADLINE_EXCEEDED, f"no answer in {left or 0:.3g} s") from None
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        took = self._clock() - begun
        self.latencies.add(took)
        logits = None if self.signature.task == "sentence-embedding" else values
        answer = Rows(values if logits is None else softmax(values), logits, None, made.cut)
        answer.ran_s, answer.batch = took, len(work)
        return answer

    async def close(self) -> None:
        """End the thread; the pool has an end of its own."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _make(self, texts: Sequence[str]) -> _Made:
        with self.usage.leg():
            try:
                encoded = self._encoder.encode(texts)
                runs = text_feeds(self.signature, encoded, self.settings.most_rows)
                return _Made([(rows, self._body({**feed, **self._half.run(feed)})) for rows, feed in runs], encoded.cut)
            except DataError as error:
                raise RpcError(Code.INVALID_ARGUMENT, said(error)[:400]) from error

    def _body(self, tensors: dict[str, Tensor]) -> bytes:
        request = _REQUEST(model_name=self.settings.upper)
        for name, tensor in packed(self._half.cut, tensors).items():
            add_input(request, name, tensor)
        body: bytes = request.SerializeToString()
        return body

    async def _fill(self, values: Any, rows: list[int], body: bytes, question: Question, until: float) -> None:
        told = None if until == math.inf else max(until - self._clock(), 0.0)
        upper = self.settings.upper
        try:
            reply = await self._backends.unary(INFER, body, metadata=question.metadata, told_s=told)
            found = outputs_of(parsed(_RESPONSE, reply.message)).get(self._half.cut.output)
        except RpcError as error:
            code = _OF_OURS.get(error.code, error.code)
            raise RpcError(code, f"{upper}: {error.message}", error.trailing, ours=error.ours, pushback=error.pushback) from error
        if found is None or found.dtype != np.float32 or found.shape != (len(rows), self._width):
            shape = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
            raise RpcError(Code.INTERNAL, f"{upper}: {self._half.cut.output} is {shape}, not FP32 [{len(rows)}, {self._width}]")
        if not np.isfinite(found).all():
            raise RpcError(Code.INTERNAL, f"{upper}: {self._half.cut.output} has values that are no numbers")
        values[rows] = found
