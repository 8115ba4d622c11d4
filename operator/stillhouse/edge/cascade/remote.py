"""A model on a server of the protocol, near or far: a pool of backends, or one connection to a cloud."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.cascade.legs import Rows, told_digest
from stillhouse.edge.cascade.question import EMBEDDING, PROBABILITIES, PROVENANCE, Question
from stillhouse.edge.cascade.search import Index
from stillhouse.edge.cascade.told import Labels
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import outputs_of
from stillhouse.edge.status import Code, Metadata, Reply, RpcError
from stillhouse.errors import UsageError
from stillhouse.inference.postprocess import softmax
from stillhouse.inference.signature import Signature

__all__ = ["INFER", "Backends", "Remote", "RemoteLeg"]

INFER = f"/{SERVICE}/ModelInfer"
_RESPONSE = message("ModelInferResponse")
_OUTSIDE = 1e-3
_OFF = 1e-2
"""How far a probability may lie beyond 0 and 1, and a row's sum from 1: half precision and many labels are within it."""
_log = logging.getLogger(__name__)


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
    `provenance`: whether it has an output of this name. `checked`: it is asked for with every request, and rows of another digest
    are told so (`Rows.other`).
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
    checked: bool = False


class RemoteLeg:
    """A model behind the protocol. `signature`: of the cascade's public model.

    `finite`: values that are no numbers, or no probabilities, are no answer. Of a leg with another one behind it such rows go on
    instead. `changes`: how often its servers have come or gone; given, it is asked for its labels (`told.Labels`).
    """

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
        finite: bool = True,
        changes: Callable[[], int] | None = None,
    ) -> None:
        """Check the settings.

        Raises:
            UsageError: its labels are others than the small model's.
        """
        self.remote, self.name, self.variant, self.digest = remote, name, remote.variant, remote.digest
        self.gives_logits = remote.logits
        self.latencies = Quantiles(clock=clock)
        self._backends, self._index, self._clock, self._ready = backends, index, clock, ready
        self._finite = finite
        self._says_what_it_is = False
        self._output = remote.output or (EMBEDDING if signature.task == "sentence-embedding" else PROBABILITIES)
        self._classifies = signature.task != "sentence-embedding"
        self._names: dict[str, str] = {signature.tensor: remote.input} if remote.input else {}
        self._width = index.dimension if index is not None else len(signature.labels)
        self._order: list[int] | None = None
        self.served = ""
        """A digest that it told and that is not the one of the settings."""
        self.labels: Labels | None = None
        if changes is not None and signature.labels and not remote.labels:
            self.labels = Labels(remote.model, signature.labels, self._said, changes=changes, clock=clock)
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

    def offers(self, outputs: set[str]) -> None:
        """Take note of the outputs that the server's model has: one that says what it is is asked for that with every request.

        A digest that was learned once would not do: behind an address there may be servers of several revisions, and one may
        change its model between two calls. An answer is said to be of a digest that came with it, or of none.
        """
        self._says_what_it_is = PROVENANCE in outputs

    async def ask(self, question: Question, until: float) -> Rows:
        """Answer; see `Leg`."""
        remote = self.remote
        provenance = (remote.provenance and (question.provenance or remote.checked)) or self._says_what_it_is
        outputs = (self._output, PROVENANCE) if provenance else (self._output,)
        body = question.written(remote.model, remote.version, outputs, self._names)
        metadata = question.metadata + remote.credentials
        begun = self._clock()
        left = None if until == math.inf else until - begun
        if left is not None and left <= 0:
            raise RpcError(Code.DEADLINE_EXCEEDED, f"{self.name}: there is no time left to ask")
        try:
            async with asyncio.timeout(left):
                order = self._order if self.labels is None else await self.labels.order()
                reply = await self._backends.unary(INFER, body, metadata=metadata, told_s=left)
        except TimeoutError:
            self._doubt()
            self.latencies.add(self._clock() - begun)
            raise RpcError(Code.DEADLINE_EXCEEDED, f"{self.name}: no answer in {left or 0:.3g} s") from None
        except RpcError as error:
            if error.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE):
                self._doubt()
            if error.code == Code.DEADLINE_EXCEEDED:
                self.latencies.add(self._clock() - begun)
            if self._says_what_it_is and PROVENANCE in error.message:  # another server took its place
                self._says_what_it_is = False
                return await self.ask(question, until)
            raise
        took = self._clock() - begun
        self.latencies.add(took)
        rows = self._read(reply.message, question.rows, order)
        rows.ran_s = took
        if self._index is not None:
            index, values = self._index, rows.values
            rows.found = await asyncio.get_running_loop().run_in_executor(None, index.search, values)
        return rows

    def _doubt(self) -> None:
        if self.labels is not None and not self.labels.trouble:
            self.labels.doubt()

    async def _said(self, method: str, body: bytes) -> bytes:
        return (await self._backends.unary(method, body, metadata=self.remote.credentials)).message

    def _read(self, body: bytes, count: int, order: list[int] | None) -> Rows:
        try:
            tensors = outputs_of(parsed(_RESPONSE, body))
        except RpcError as error:
            raise RpcError(Code.INTERNAL, f"{self.name}: {error.message}") from None
        values = tensors.get(self._output)
        if values is None or values.dtype.kind != "f" or values.shape != (count, self._width):
            found = "nothing" if values is None else f"{values.dtype} {list(values.shape)}"
            raise RpcError(Code.INTERNAL, f"{self.name}: {self._output} is {found}, not FP32 [{count}, {self._width}]")
        with np.errstate(over="ignore"):  # an FP64 that is too large is infinite
            values = np.asarray(values, dtype=np.float32)
        wrong = self._wrong(values)
        if self._finite and wrong is not None and (wrong.all() or self._index is not None or not self._classifies):
            raise RpcError(Code.INTERNAL, f"{self.name}: {self._output} has values that are no {self._expected}")
        if order is not None:
            values = values[:, order]
        told = tensors.get(PROVENANCE)
        provenance = None if told is None or told.size != count else [bytes(each) for each in told.reshape(-1)]
        rows = Rows(values, provenance=provenance, wrong=wrong, other=self._other(provenance))
        return replace(rows, values=softmax(values), logits=values) if self.remote.logits else rows

    @property
    def _expected(self) -> str:
        return "numbers" if self.remote.logits or not self._classifies else "probabilities"

    def _wrong(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_] | None:
        """Return which rows are no answer, None where all are."""
        if self._expected == "numbers":
            wrong = ~np.isfinite(values).all(axis=1)
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                inside = (values >= -_OUTSIDE) & (values <= 1 + _OUTSIDE)  # NaN is neither
                wrong = ~(inside.all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= _OFF))
        return wrong if wrong.any() else None

    def _other(self, provenance: list[bytes] | None) -> npt.NDArray[np.bool_] | None:
        """Return which rows say that another model gave them, None where none does."""
        if not self.remote.checked or provenance is None:
            return None
        digests = [told_digest(each) for each in provenance]
        other = np.array([bool(each) and each != self.digest for each in digests], dtype=np.bool_)
        served = next((each for each in digests if each and each != self.digest), "")
        if served and served != self.served:
            _log.error("%s: the server's model is %s; the calibration is of %s: not trusted", self.name, served, self.digest)
        self.served = served
        return other if served else None

    async def close(self) -> None:
        """End the connections."""
        await self._backends.close()
