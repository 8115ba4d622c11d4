"""A model on a server of the protocol, near or far: a pool of backends, or one connection to a cloud."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.cascade.legs import Rows
from stillhouse.edge.cascade.question import EMBEDDING, PROBABILITIES, PROVENANCE, Question
from stillhouse.edge.cascade.search import Index
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import outputs_of
from stillhouse.edge.status import Code, Metadata, Reply, RpcError
from stillhouse.edge.wire.client import Channel
from stillhouse.errors import UsageError
from stillhouse.inference.postprocess import softmax
from stillhouse.inference.signature import Signature

__all__ = ["INFER", "Backends", "Remote", "RemoteLeg", "channel"]

INFER = f"/{SERVICE}/ModelInfer"
_RESPONSE = message("ModelInferResponse")


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
    """A model behind the protocol. `signature`: of the cascade's public model.

    `finite`: values that are no numbers are no answer. Of a leg with another one behind it such rows go on instead.
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

    def offers(self, outputs: set[str]) -> None:
        """Take note of the outputs that the server's model has: one that says what it is is asked for that with every request."""
        self._says_what_it_is = PROVENANCE in outputs

    async def ask(self, question: Question, until: float) -> Rows:
        """Answer; see `Leg`."""
        remote = self.remote
        provenance = (question.provenance and remote.provenance) or self._says_what_it_is
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
            if self._says_what_it_is and PROVENANCE in error.message:  # another server took its place
                self._says_what_it_is = False
                return await self.ask(question, until)
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
        with np.errstate(over="ignore"):  # an FP64 that is too large is infinite
            values = np.asarray(values, dtype=np.float32)
        if self._finite and not np.isfinite(values).all():
            raise RpcError(Code.INTERNAL, f"{self.name}: {self._output} has values that are no numbers")
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
