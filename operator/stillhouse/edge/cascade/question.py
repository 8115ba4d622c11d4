"""A request to a cascade: read and checked once, cut into the rows that go on, and written anew for another server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import datatype_of, inputs_of, packed_bytes
from stillhouse.edge.status import Code, Metadata, RpcError
from stillhouse.errors import DataError
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import decode_utf8

__all__ = [
    "CONFIDENCE",
    "EMBEDDING",
    "LABEL",
    "LEG",
    "NEIGHBOR",
    "PROBABILITIES",
    "PROVENANCE",
    "SCORE",
    "TEXT",
    "Question",
    "Reader",
]

TEXT = "TEXT"
EMBEDDING, LABEL, PROBABILITIES, PROVENANCE = "EMBEDDING", "LABEL", "PROBABILITIES", "PROVENANCE"
NEIGHBOR, SCORE, CONFIDENCE, LEG = "NEIGHBOR", "SCORE", "CONFIDENCE", "LEG"
_OURS = ("trace",)
"""Parameters of a request that are for the cascade alone."""

_REQUEST = message("ModelInferRequest")
Work = list[str] | npt.NDArray[np.float32]
"""What the model in this process takes: texts, images [n, channels, height, width], or features [n, columns] or
[n, length, channels]."""


@dataclass(slots=True)
class Question:
    """A request of `rows` rows. `outputs`: the names that its answer has.

    `classes`: how many of PROBABILITIES, as the protocol's extension `classification` has it; 0: the tensor.
    `chosen`: which rows of the request it is about, None for all. `metadata` goes on to other servers.
    """

    request: Any
    rows: int
    outputs: tuple[str, ...]
    metadata: Metadata = ()
    trace: bool = False
    provenance: bool = False
    classes: int = 0
    chosen: npt.NDArray[np.int64] | None = None
    whole: Question | None = None
    _tensors: dict[str, npt.NDArray[Any]] | None = None
    _work: Work | None = None

    def part(self, rows: npt.NDArray[np.int64]) -> Question:
        """Return the question of some of the rows, which rise."""
        if len(rows) == self.rows:
            return self
        chosen = rows if self.chosen is None else self.chosen[rows]
        return replace(self, rows=len(rows), chosen=chosen, whole=self.whole or self, _tensors=None, _work=None)

    @property
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the input tensors by name.

        Raises:
            RpcError: INVALID_ARGUMENT; one cannot be read.
        """
        if self._tensors is None:
            whole = self.whole
            if whole is None:
                self._tensors = inputs_of(self.request)
            else:
                self._tensors = {name: tensor[self.chosen] for name, tensor in whole.tensors.items()}
        return self._tensors

    @property
    def work(self) -> Work:
        """Return what the model in this process takes.

        Raises:
            RpcError: INVALID_ARGUMENT; a text is not UTF-8.
        """
        if self._work is None:
            tensors = self.tensors
            if TEXT in tensors:
                try:
                    self._work = decode_utf8(tensors[TEXT].ravel().tolist(), TEXT)
                except DataError as error:
                    raise RpcError(Code.INVALID_ARGUMENT, said(error)) from None
            else:
                (self._work,) = tensors.values()  # the reader has seen that there is this one alone
        return self._work

    def written(self, model: str, version: str, outputs: Sequence[str], names: dict[str, str]) -> bytes:
        """Return this as a request to another server's model; `names`: what it calls inputs that it has another name for.

        PROVENANCE among `outputs` is asked for though the client did not.
        """
        request = _REQUEST()
        if self.whole is None:
            request.CopyFrom(self.request)
            del request.outputs[:]
            for tensor in request.inputs:
                tensor.name = names.get(tensor.name, tensor.name)
        else:
            request.id = self.request.id
            for key, value in self.request.parameters.items():
                request.parameters[key].CopyFrom(value)
            for name, tensor in self.tensors.items():
                request.inputs.add(name=names.get(name, name), datatype=datatype_of(tensor), shape=tensor.shape)
                request.raw_input_contents.append(_raw(tensor))
        request.model_name, request.model_version = model, version
        for name in _OURS:
            request.parameters.pop(name, None)
        for name in outputs:
            request.outputs.add(name=name)
        if PROVENANCE in outputs:
            request.parameters["provenance"].bool_param = True
        return bytes(request.SerializeToString())


def _raw(tensor: npt.NDArray[Any]) -> bytes:
    if tensor.dtype == object:
        return packed_bytes(list(tensor.reshape(-1)))
    return np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<")).tobytes()


class Reader:
    """Reads requests to one model as docs/wire-contract.md has them. `most_rows`: of one request. `searched`: it has an index."""

    def __init__(self, signature: Signature, most_rows: int, *, searched: bool) -> None:
        self._name = signature.tensor
        self._type = "BYTES" if signature.takes_texts else "FP32"
        self._shape = signature.shape or (1,)
        self._most, self._labels = most_rows, len(signature.labels)
        embeds = signature.task == "sentence-embedding"
        self.usual = (EMBEDDING,) if embeds else (LABEL, PROBABILITIES)
        """What a request gets that names no outputs."""
        self.known = (*self.usual, *((NEIGHBOR, SCORE) if searched else ()), CONFIDENCE, LEG, PROVENANCE)

    def read(self, body: bytes, metadata: Metadata) -> Question:
        """Return the request.

        Raises:
            RpcError: INVALID_ARGUMENT, or NOT_FOUND for another version; what is wrong with it.
        """
        # The service has read it before us. To read it again is less than what it would take to hand it through all that answer:
        # 0.4 µs of 32 texts, 8 µs of a picture's 600 kB, beside a model's milliseconds.
        request = parsed(_REQUEST, body)
        if request.model_version not in ("", "1"):
            raise RpcError(Code.NOT_FOUND, f"there is no version {request.model_version[:20]!r}; there is 1")
        if len(request.inputs) != 1 or request.inputs[0].name != self._name:
            found = ", ".join(each.name[:40] for each in request.inputs[:8]) or "nothing"
            raise RpcError(Code.INVALID_ARGUMENT, f"inputs: found {found}, allowed {self._name}")
        tensor = request.inputs[0]
        shape = tuple(tensor.shape)
        if tensor.datatype != self._type or shape[1:] != self._shape or not 1 <= shape[0] <= self._most:
            wanted = f"{self._type} [n, {', '.join(map(str, self._shape))}], n from 1 to {self._most}"
            found = f"{tensor.datatype[:20]} {list(shape)[:8]}"
            raise RpcError(Code.INVALID_ARGUMENT, f"{self._name}: found {found}, allowed {wanted}")
        told = request.parameters
        provenance = "provenance" in told and bool(told["provenance"].bool_param)
        question = Question(request, shape[0], self.usual, metadata, provenance=provenance)
        question.trace = "trace" in told and bool(told["trace"].bool_param)
        if request.outputs:
            self._outputs(question)
        elif provenance:
            question.outputs = (*self.usual, PROVENANCE)
        return question

    def _outputs(self, question: Question) -> None:
        names: list[str] = []
        for each in question.request.outputs:
            if each.name not in self.known or each.name in names:
                what = "twice" if each.name in names else "not known"
                raise RpcError(Code.INVALID_ARGUMENT, f"output {each.name[:40]!r}: {what}; allowed {', '.join(self.known)}")
            if each.name == PROBABILITIES and "classification" in each.parameters:
                question.classes = max(0, min(int(each.parameters["classification"].int64_param), self._labels))
            names.append(each.name)
        if not question.provenance and PROVENANCE in names:
            names.remove(PROVENANCE)  # as the model's own server has it
        question.outputs = tuple(names)


def said(error: DataError) -> str:
    """Return one line for a status' message."""
    problem = error.problem
    parts = [f"{name} {value}" for name, value in (("found", problem.found), ("allowed", problem.allowed)) if value]
    return f"{problem.field}: {problem.message}" + (f" ({'; '.join(parts)})" if parts else "")
