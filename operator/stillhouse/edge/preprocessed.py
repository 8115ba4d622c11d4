"""A model elsewhere whose inputs are made here: clients send texts, pictures or samples, and features travel, encoded or plain.

It is one of `Service`'s `answering`, under the public name. The steps run in a thread: those that read pictures and texts leave
the loop alone, and numpy's too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse.edge.answering import OF_A_MODEL
from stillhouse.edge.cascade.question import said
from stillhouse.edge.economics import Usage
from stillhouse.edge.join.legs import Leg
from stillhouse.edge.oip.configs import CONFIG, own
from stillhouse.edge.oip.encodings import add_encoded
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import inputs_of
from stillhouse.edge.onward import left_of, onward
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.errors import DataError, SourceError
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.encodings import Encoding
from stillhouse.inference.preprocess.chain import CHAIN_FILE, read_chain

__all__ = ["Preprocessed"]

PLATFORM = "stillhouse_preprocess"
_INFER = f"/{SERVICE}/ModelInfer"
_REQUEST, _RESPONSE = message("ModelInferRequest"), message("ModelInferResponse")
_OURS = {Code.NOT_FOUND: Code.UNAVAILABLE, Code.UNIMPLEMENTED: Code.INTERNAL}
"""What the model's server says → what that is to a client, who asked for a model that there is."""


class Preprocessed:
    """`model` is what the server of `leg` calls the model; `folder` has the steps; `encoding` is how their FP32 travels.

    `allowed`: packages whose functions the steps may call.
    """

    def __init__(
        self, name: str, model: str, folder: Path, encoding: str, leg: Leg, usage: Usage, allowed: frozenset[str] = frozenset()
    ) -> None:
        """Load the steps.

        Raises:
            SourceError: they are not there, or a file of theirs is not. SpecError: they do not fit together.
        """
        chain = read_chain(folder, allowed)
        if chain is None:
            raise SourceError("there are no steps", field="edge.folder", found=str(folder / CHAIN_FILE))
        self._name, self._model, self._chain, self._leg, self._usage = name, model, chain, leg, usage
        plain = Encoding() if encoding == "none" else Encoding.parse(encoding, "preprocess.encoding")
        self._encodings = {each.name: _fitting(plain, each) for each in chain.outputs}

    @property
    def texts(self) -> tuple[str, ...]:
        """Return which inputs are texts, for a guard: those that are tokenised; other BYTES are files."""
        return tuple(each.name for step in self._chain.steps if step.kind == "tokenise" for each in step.inputs)

    @property
    def ready(self) -> bool:
        """Return whether there is anybody to ask."""
        return self._leg.ready

    async def infer(self, call: Call, body: bytes) -> Reply:
        """Answer an inference.

        Raises:
            RpcError: INVALID_ARGUMENT, the steps cannot use the request; else as the model's server.
        """
        request = parsed(_REQUEST, body)
        given = inputs_of(request)
        began = time.perf_counter()
        made = await asyncio.to_thread(self._made, request, given)
        took = time.perf_counter() - began
        reply = await self._ask(call, _INFER, made)
        answer = self._parsed(_RESPONSE, reply)
        answer.model_name = self._name
        answer.parameters["leg"].string_param = "cloud"
        if "variant" not in answer.parameters:
            answer.parameters["variant"].string_param = self._model
        if "trace" in request.parameters and request.parameters["trace"].bool_param:
            answer.parameters["trace_steps_ms"].double_param = took * 1000
        rows = next((len(tensor) for tensor in given.values() if tensor.ndim), 1)
        self._usage.count(rows, rows, called=True)
        return Reply(answer.SerializeToString())

    def _made(self, request: Any, given: Mapping[str, Tensor]) -> bytes:
        try:
            features = self._chain.run(given)
            made = _REQUEST(
                model_name=self._model,
                model_version=request.model_version,
                id=request.id,
                parameters=request.parameters,
                outputs=request.outputs,
            )
            for name, tensor in features.items():
                add_encoded(made, name, tensor, self._encodings[name])
        except DataError as error:
            raise RpcError(Code.INVALID_ARGUMENT, said(error)[:400]) from error
        made.parameters.pop("trace", None)
        body: bytes = made.SerializeToString()
        return body

    async def about(self, call: Call, body: bytes) -> Reply:
        """Answer `ModelReady`, `ModelMetadata`, `ModelConfig` and `ModelStatistics`.

        What the steps take is theirs, the rest what the model says.

        Raises:
            RpcError: UNIMPLEMENTED; it is none of these. Else as the model's server.
        """
        name = call.method.rpartition("/")[2]
        if name not in OF_A_MODEL:
            text = f"{self._name} is steps before {self._model}, which have no {name} as a whole"
            raise RpcError(Code.UNIMPLEMENTED, text)
        if name == "ModelConfig":
            return await self._config(call)
        return Reply((await self._told(name, call, body)).SerializeToString())

    async def _config(self, call: Call) -> Reply:
        request = CONFIG.message("ModelConfigRequest")(name=self._model).SerializeToString()
        asked = self._ask(call, f"/{SERVICE}/ModelConfig", request)
        reply, about = await asyncio.gather(asked, self._told("ModelMetadata", call, b""))
        model = self._parsed(CONFIG.message("ModelConfigResponse"), reply).config
        return Reply(own(model, about).SerializeToString())

    async def _told(self, name: str, call: Call, body: bytes) -> Any:
        request = parsed(message(f"{name}Request"), body)
        request.name = self._model
        found = self._parsed(message(f"{name}Response"), await self._ask(call, f"/{SERVICE}/{name}", request.SerializeToString()))
        if name == "ModelMetadata":
            found.name, found.platform = self._name, PLATFORM
            del found.inputs[:]
            for each in self._chain.inputs:
                found.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        elif name == "ModelStatistics":
            for each in found.model_stats:
                each.name = self._name
        return found

    async def _ask(self, call: Call, method: str, body: bytes) -> Reply:
        try:
            return await self._leg.ask(call, method, body, onward(call), left_of(call))
        except RpcError as error:
            code = _OURS.get(error.code, error.code)
            text = f"{self._model}: {error.message}"
            raise RpcError(code, text, error.trailing, ours=error.ours, pushback=error.pushback) from error

    def _parsed(self, kind: Any, reply: Reply) -> Any:
        try:
            return parsed(kind, reply.message)
        except RpcError as error:
            raise RpcError(Code.INTERNAL, f"{self._model}: {error.message}") from error


def _fitting(encoding: Encoding, spec: TensorSpec) -> Encoding:
    """Return how a tensor travels: integers keep every bit, and BYTES are as they are."""
    if spec.datatype == "BYTES":
        return Encoding()
    return encoding if spec.datatype == "FP32" else Encoding("", zstd=encoding.zstd)
