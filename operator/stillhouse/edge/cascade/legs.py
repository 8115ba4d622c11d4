"""Who answers: the small model in this process, or a server of the protocol, near or far."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.cascade.batches import Batches, Submit
from stillhouse.edge.cascade.question import EMBEDDING, PROBABILITIES, PROVENANCE, Question, Work, said
from stillhouse.edge.cascade.search import Index
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import outputs_of
from stillhouse.edge.status import Code, Metadata, Reply, RpcError
from stillhouse.edge.wire.client import Channel
from stillhouse.errors import DataError, SourceError, UsageError
from stillhouse.inference.confidence import Neighbours
from stillhouse.inference.engine import Engine
from stillhouse.inference.postprocess import softmax
from stillhouse.inference.signature import Signature, Task

__all__ = ["Backends", "EngineLeg", "EngineSettings", "Leg", "Remote", "RemoteLeg", "Rows", "channel"]

INFER = f"/{SERVICE}/ModelInfer"
_RESPONSE = message("ModelInferResponse")
Values = npt.NDArray[np.float32]
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Rows:
    """A leg's answer to n rows: `values` float32 [n, width], embeddings or probabilities in the order of the model's labels.

    `logits`: where the leg has them. `found`: what its index gives for embeddings. `cut`: tokens left out of each text.
    `provenance`: a JSON object a row, as a server told it. `waited_s`, `ran_s`, `batch`: how it came about.
    """

    values: Values
    logits: Values | None = None
    found: Neighbours | None = None
    cut: Sequence[int] | None = None
    provenance: Sequence[bytes] | None = None
    waited_s: float = 0.0
    ran_s: float = 0.0
    batch: int = 0


class Leg(Protocol):
    """Who answers. `name` is what LEG says; `latencies` are seconds of its answers, and of those that did not come in time."""

    name: str
    variant: str
    digest: str
    gives_logits: bool
    latencies: Quantiles

    @property
    def ready(self) -> bool:
        """Return whether there is anybody to ask."""
        ...

    async def ask(self, question: Question, until: float) -> Rows:
        """Answer until this time of the legs' clock (infinite: whenever).

        Raises:
            RpcError: as it ended; DEADLINE_EXCEEDED at that time.
        """
        ...

    async def close(self) -> None:
        """Take no more, and end."""
        ...


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
        self.engine = Engine(folder, self.settings.threads)
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
        self.batches: Batches[Work, Rows] = Batches(
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
        work = question.work
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

    def _run(self, works: Sequence[Work]) -> list[Rows | Exception]:
        """Run a batch, in a thread."""
        found: list[Rows | Exception] = [_DROPPED] * len(works)
        ready: list[tuple[int, Any]] = []
        for at, work in enumerate(works):
            try:
                ready.append((at, work if isinstance(work, list) else self.engine.prepare_images(work)))
            except DataError as error:
                found[at] = RpcError(Code.INVALID_ARGUMENT, said(error))
        if not ready:
            return found
        cut: Sequence[int] | None = None
        if self.engine.is_text:
            result = self.engine.raw_texts([text for _, texts in ready for text in texts])
            raw, cut = result.values, result.cut
        else:
            raw = self.engine.raw_images(np.concatenate([each for _, each in ready]) if len(ready) > 1 else ready[0][1])
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


class Backends(Protocol):
    """Where a remote leg sends: a pool (`route.pool.Pool`) or one connection (`wire.client.Channel`)."""

    async def unary(self, method: str, message: bytes, *, metadata: Metadata = (), told_s: float | None = None) -> Reply:
        """Call a unary method; `told_s`: seconds that are left, as the server is told."""
        ...

    async def close(self) -> None:
        """End the connections."""
        ...


@dataclass(frozen=True, slots=True)
class Remote:
    """A model on a server of the protocol. Left empty, names are those of docs/wire-contract.md.

    `output`: its probabilities (or logits, with `logits`), or its embeddings. `labels`: its columns, where their order is not
    the small model's. `digest`, `variant`: what an answer of it is said to be of. `credentials`: metadata of every call.
    `provenance`: whether it has an output of this name.
    """

    model: str
    version: str = ""
    input: str = ""
    output: str = ""
    labels: tuple[str, ...] = ()
    logits: bool = False
    variant: str = ""
    digest: str = ""
    credentials: Metadata = ()
    provenance: bool = True


class RemoteLeg:
    """A model behind the protocol. `signature`: of the cascade's public model."""

    def __init__(
        self,
        remote: Remote,
        backends: Backends,
        signature: Signature,
        *,
        name: str = "cloud",
        index: Index | None = None,
        clock: Callable[[], float] = time.monotonic,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Check the settings.

        Raises:
            UsageError: its labels are others than the small model's.
        """
        self.remote, self.name, self.variant, self.digest = remote, name, remote.variant, remote.digest
        self.gives_logits = remote.logits
        self.latencies = Quantiles(clock=clock)
        self._backends, self._index, self._clock, self._ready = backends, index, clock, ready
        self._output = remote.output or (EMBEDDING if signature.task == "sentence-embedding" else PROBABILITIES)
        self._task: Task = signature.task
        self._names = {"IMAGE" if signature.image else "TEXT": remote.input} if remote.input else {}
        self._width = index.dimension if index is not None else len(signature.labels)
        self._order: list[int] | None = None
        if remote.labels and remote.labels != signature.labels:
            if sorted(remote.labels) != sorted(signature.labels):
                raise UsageError(
                    "the larger model has other labels than the small one",
                    field="labels",
                    found=", ".join(remote.labels)[:200],
                    allowed=", ".join(signature.labels)[:200],
                )
            self._order = [remote.labels.index(each) for each in signature.labels]

    @property
    def ready(self) -> bool:
        """Return whether there is anybody to ask."""
        return self._ready()

    async def ask(self, question: Question, until: float) -> Rows:
        """Answer; see `Leg`."""
        remote = self.remote
        provenance = question.provenance and remote.provenance
        body = question.written(
            remote.model, remote.version, (self._output, PROVENANCE) if provenance else (self._output,), self._names
        )
        metadata = question.metadata + remote.credentials
        begun = self._clock()
        left = None if until == math.inf else until - begun
        if left is not None and left <= 0:
            raise RpcError(Code.DEADLINE_EXCEEDED, f"{self.name}: there is no time left to ask")
        try:
            async with asyncio.timeout(left):
                reply = await self._backends.unary(INFER, body, metadata=metadata, told_s=left)
        except TimeoutError:
            self.latencies.add(self._clock() - begun)
            raise RpcError(Code.DEADLINE_EXCEEDED, f"{self.name}: no answer in {left or 0:.3g} s") from None
        except RpcError as error:
            if error.code == Code.DEADLINE_EXCEEDED:
                self.latencies.add(self._clock() - begun)
            raise
        took = self._clock() - begun
        self.latencies.add(took)
        rows = self._read(reply.message, question.rows)
        rows.ran_s = took
        if self._index is not None:
            index, values = self._index, rows.values
            rows.found = await asyncio.get_running_loop().run_in_executor(None, index.search, values)
        return rows

    def _read(self, body: bytes, count: int) -> Rows:
        try:
            tensors = outputs_of(parsed(_RESPONSE, body))
        except RpcError as error:
            raise RpcError(Code.INTERNAL, f"{self.name}: {error.message}") from None
        values = tensors.get(self._output)
        if values is None or values.dtype.kind != "f" or values.shape != (count, self._width):
            found = "nothing" if values is None else f"{values.dtype} {list(values.shape)}"
            raise RpcError(Code.INTERNAL, f"{self.name}: {self._output} is {found}, not FP32 [{count}, {self._width}]")
        values = np.asarray(values, dtype=np.float32)
        if self._order is not None:
            values = values[:, self._order]
        told = tensors.get(PROVENANCE)
        provenance = None if told is None or told.size != count else [bytes(each) for each in told.reshape(-1)]
        rows = Rows(values, provenance=provenance)
        return replace(rows, values=softmax(values), logits=values) if self.remote.logits else rows

    async def close(self) -> None:
        """End the connections."""
        await self._backends.close()


def channel(url: str, tls: ssl.SSLContext | None, largest: int = 64 << 20) -> Channel:
    """Return a connection to `grpcs://HOST[:PORT]` (443) or, without encryption, `grpc://HOST:PORT`; `tls` as `towards` gives it.

    Raises:
        UsageError: it is no such address.
    """
    scheme, separator, rest = url.partition("://")
    address = rest.rstrip("/")
    if scheme == "grpcs" and ":" not in address.rpartition("]")[2]:
        address += ":443"
    host, _, port = address.rpartition(":")
    if (
        not separator
        or scheme not in ("grpc", "grpcs")
        or not host
        or not port.isdigit()
        or not 0 < int(port) <= 65535
        or "/" in host
    ):
        raise UsageError(
            "this is no address of a cloud", field="cloud", found=url[:200], allowed="grpcs://HOST[:PORT], grpc://HOST:PORT"
        )
    if scheme == "grpcs" and tls is None:
        raise UsageError("grpcs:// needs TLS", field="cloud", found=url[:200], fix="give the authority, or the system's")
    return Channel(address, tls=tls if scheme == "grpcs" else None, largest=largest)
