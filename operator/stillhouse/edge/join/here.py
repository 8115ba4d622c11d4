"""A step in the gateway's own process: what a pipeline's steps are where its model is in the process too, and no Triton."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import add_output, inputs_of
from stillhouse.edge.status import Code, Metadata, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.inference.step_session import StepSession
from stillhouse.inference.steps import Step, Tensor, step_file

__all__ = ["StepHere"]

_REQUEST, _RESPONSE = message("ModelInferRequest"), message("ModelInferResponse")


class StepHere:
    """Runs a step of an artifact, one request at a time in a thread of its own. A leg (`legs.Leg`)."""

    ready = True

    def __init__(self, folder: Path, step: Step) -> None:
        """Load the step's graph.

        Raises:
            SourceError: it is not readable.
        """
        self._step, self._session = step, StepSession(folder / step_file(step.name))
        self._thread = ThreadPoolExecutor(1, f"step-{step.name}")

    async def ask(self, call: Call, method: str, body: bytes, metadata: Metadata, told_s: float | None) -> Reply:
        """Answer an inference, or what is asked of the step itself.

        Raises:
            RpcError: INVALID_ARGUMENT; the tensors are wrong. INTERNAL: the graph cannot be run on them.
        """
        match method.removeprefix(f"/{SERVICE}/"):
            case "ModelInfer":
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._infer, body)
            case "ModelReady":
                return Reply(message("ModelReadyResponse")(ready=True).SerializeToString())
            case "ModelMetadata":
                return self._metadata()
        raise RpcError(Code.UNIMPLEMENTED, "a step has no such method")

    async def close(self) -> None:
        """End the thread; what it does is done first."""
        self._thread.shutdown(wait=False)

    def _infer(self, body: bytes) -> Reply:
        request = parsed(_REQUEST, body)
        wanted = [each.name for each in request.outputs] or [each.name for each in self._step.gives]
        try:
            found = self._session.run(inputs_of(request), wanted)
        except RpcError:
            raise
        except Exception as error:  # ONNX Runtime has one exception class per status code, without a common base
            raise RpcError(Code.INTERNAL, f"{error}".splitlines()[0][:300]) from error
        response = _RESPONSE(model_name=request.model_name, model_version="1", id=request.id)
        for name, array in found.items():
            add_output(response, name, array)
        return Reply(response.SerializeToString())

    def _metadata(self) -> Reply:
        response = message("ModelMetadataResponse")(name=self._step.name, versions=["1"], platform="onnxruntime")
        ends: tuple[tuple[Any, tuple[Tensor, ...]], ...] = (
            (response.inputs, self._step.takes),
            (response.outputs, self._step.gives),
        )
        for tensors, told in ends:
            for each in told:
                tensors.add(name=each.name, datatype=each.datatype, shape=[-1, *each.shape])
        return Reply(response.SerializeToString())
