"""A small server of the Open Inference Protocol: model `echo` gives every input back under the same name.

It knows metadata, statistics and configuration. A request parameter `fail` makes it fail with that code, `slow` take so many
seconds, `typed` answer with typed contents.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from tests.support.kube.process import free_port
from tritonclient.grpc import service_pb2 as triton

from stillhouse.edge.gateway import Options, run
from stillhouse.edge.oip.tensors import add_output, inputs_of
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.server import Server, Unary

__all__ = ["Backend", "Site", "backend", "site"]

_SERVICE = "/inference.GRPCInferenceService"


class Backend:
    """`requests`: what has been asked; `metadata`: of the last call; `begun`, `cancelled`: slow calls.

    `inputs`: what it says that it takes (name, data type and its number, dimensions); `told`: how often it has been asked that.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.inputs: list[tuple[str, str, int, list[int]]] = [("x", "FP32", 11, [3])]
        self.told = 0
        self.metadata: dict[str, Any] = {}
        self.address = ""
        self.begun = self.cancelled = 0

    def methods(self) -> dict[str, Unary]:
        names = {"ModelInfer": self.infer, "ModelReady": self.ready, "ModelMetadata": self.describe,
                 "ModelStatistics": self.statistics, "ModelConfig": self.config}  # fmt: skip
        return {f"{_SERVICE}/{name}": work for name, work in names.items()}

    async def infer(self, call: Call, body: bytes) -> Reply:
        request = triton.ModelInferRequest.FromString(body)
        self.requests.append(request)
        self.metadata = dict(call.metadata)
        if "fail" in request.parameters:
            raise RpcError(request.parameters["fail"].int64_param, "as you wish")
        if "slow" in request.parameters:
            self.begun += 1
            try:
                await asyncio.sleep(request.parameters["slow"].double_param)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        response = triton.ModelInferResponse(model_name="echo", model_version=request.model_version or "1", id=request.id)
        response.parameters["leg"].string_param = "edge"
        response.parameters["confidence"].double_param = 0.75
        for name, array in inputs_of(request).items():
            add_output(response, name, array)
            if "typed" in request.parameters:
                response.outputs[-1].contents.fp32_contents.extend(array.reshape(-1).tolist())
        if "typed" in request.parameters:
            del response.raw_output_contents[:]
        return Reply(response.SerializeToString())

    async def ready(self, call: Call, body: bytes) -> Reply:
        self._named(body)
        return Reply(triton.ModelReadyResponse(ready=True).SerializeToString())

    async def describe(self, call: Call, body: bytes) -> Reply:
        self._named(body)
        self.told += 1
        response = triton.ModelMetadataResponse(name="echo", versions=["1"], platform="test")
        for name, datatype, _, dims in self.inputs:
            response.inputs.add(name=name, datatype=datatype, shape=[-1, *dims])
        response.outputs.add(name="y", datatype="FP32", shape=[-1, 3])
        return Reply(response.SerializeToString())

    async def statistics(self, call: Call, body: bytes) -> Reply:
        response = triton.ModelStatisticsResponse()
        one = response.model_stats.add(name="echo", version="1", inference_count=2**53)
        one.inference_stats.success.count = 7
        return Reply(response.SerializeToString())

    async def config(self, call: Call, body: bytes) -> Reply:
        response = triton.ModelConfigResponse()
        response.config.name, response.config.max_batch_size = "echo", 8
        for name, _, number, dims in self.inputs:
            response.config.input.add(name=name, data_type=number, dims=dims)
        response.config.parameters["k"].string_value = "v"
        response.config.parameters["stillhouse.labels"].string_value = '["no", "yes"]'
        response.config.instance_group.add(kind=2, count=1)
        response.config.dynamic_batching.max_queue_delay_microseconds = 100
        return Reply(response.SerializeToString())

    def _named(self, body: bytes) -> None:
        if triton.ModelReadyRequest.FromString(body).version not in ("", "1"):
            raise RpcError(Code.NOT_FOUND, "there is no such version")


@contextlib.asynccontextmanager
async def backend() -> AsyncIterator[Backend]:
    """Serve one on any free port; `address` is where."""
    found = Backend()
    server = Server(found.methods())
    found.address = f"127.0.0.1:{await server.listen('127.0.0.1', 0)}"
    try:
        yield found
    finally:
        await server.drain(1.0)


@dataclass(frozen=True)
class Site:
    """A gateway and the backend behind it. `grpc`, `rest`: HOST:PORT."""

    grpc: str
    rest: str
    backend: Backend


@contextlib.contextmanager
def site(**options: Any) -> Iterator[Site]:
    """Run a gateway before a backend in a thread of its own; `options` are those of the gateway. Clients may block."""
    ready: Future[Site] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def work() -> None:
        async with backend() as behind:
            given = {"rest": ("127.0.0.1", free_port()), **options}
            chosen = Options({"echo": {behind.address: 1.0}}, "1", **{"port": 0, "grace_s": 1.0, **given})
            listening: asyncio.Future[dict[str, str]] = loop.create_future()
            running = asyncio.ensure_future(run(chosen, stop, listening))
            await asyncio.wait([listening, running], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            host, port = chosen.rest or ("", 0)
            ready.set_result(Site(listening.result()["grpc"], f"{host}:{port}", behind))
            await running

    def serve() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(work())
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            else:
                raise

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ready.result(30)
    finally:
        if ready.exception() is None:
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
