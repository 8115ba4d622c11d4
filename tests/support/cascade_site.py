"""A cascade on loopback: a small model in this process behind the gateway's front, a larger one on a server beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.cascades import DIGEST, INFER, write_cascade
from tests.support.tiny_model import write_tiny_model

from stillhouse.edge.away.overload import Admission, FixedLimit
from stillhouse.edge.cascade.away import AwaySettings, Way
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.engine import EngineLeg, EngineSettings
from stillhouse.edge.cascade.later import Delivered, Later, LaterSettings
from stillhouse.edge.cascade.policy import load
from stillhouse.edge.cascade.remote import Remote, RemoteLeg
from stillhouse.edge.cascade.stages import CascadeSettings, Stage
from stillhouse.edge.door import Door
from stillhouse.edge.guard.clients import Clients
from stillhouse.edge.metrics import Counts
from stillhouse.edge.oip.configs import CONFIG
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tensors import add_output, inputs_of
from stillhouse.edge.service import Service
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.client import Channel
from stillhouse.edge.wire.server import Server
from stillhouse.inference.engine import Engine

__all__ = ["CLOUD_DIGEST", "Cloud", "Site", "half_go_on"]

CLOUD_DIGEST = "sha256:" + "c" * 64


def half_go_on(folder: Path, texts: list[str]) -> Path:
    """Write two classifiers and a cascade whose threshold sends half of these texts on."""
    write_tiny_model(folder / "edge", task="text-classification", seed=0)
    write_tiny_model(folder / "cloud", task="text-classification", seed=1)
    sure = Engine(folder / "edge").predict(texts).max(axis=1)
    write_cascade(folder / "cascade", threshold=float(np.median(sure)))
    return folder


class Cloud:
    """Serves a model by the protocol, under the name `large`; `error` is what it answers instead, and `hangs` never does.

    `instead`: values in the place of its model's. `labels`: what its `ModelConfig` tells, None: it has none. `digest`: what its
    provenance says. `configs`: how often it was asked for its configuration; `restarts`: what a pool would count.

    `requests`: what it was asked; `given_up`: calls that were ended before it answered.
    """

    def __init__(self, folder: Path) -> None:
        self.engine = Engine(folder)
        self.error: RpcError | None = None
        self.hangs = False
        self.instead: Any = None
        self.labels: list[str] | None = None
        self.digest = CLOUD_DIGEST
        self.configs = self.restarts = 0
        self.given_up = 0
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self._server = Server({INFER: self._infer, f"/{SERVICE}/ModelConfig": self._config})
        self.port = 0

    async def listen(self, port: int = 0) -> None:
        self.port = await self._server.listen("127.0.0.1", port)

    async def end(self) -> None:
        await self._server.drain(0.1)

    async def _config(self, call: Call, body: bytes) -> Reply:
        self.configs += 1
        if self.labels is None:
            raise RpcError(Code.UNIMPLEMENTED, "there is no configuration here")
        response = CONFIG.message("ModelConfigResponse")()
        response.config.parameters["stillhouse.labels"].string_value = json.dumps(self.labels)
        return Reply(response.SerializeToString())

    async def _infer(self, call: Call, body: bytes) -> Reply:
        request = message("ModelInferRequest").FromString(body)
        assert request.model_name == "large"
        self.requests.append(request)
        self.metadata.append(dict(call.metadata))
        if self.error is not None:
            raise self.error
        if self.hangs:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        ((_, tensor),) = inputs_of(request).items()
        response = message("ModelInferResponse")(model_name="large", model_version="1", id=request.id)
        if tensor.dtype == object:
            values = self.engine.run_texts([each.decode() for each in tensor.ravel()]).values
        else:
            values = self.engine.predict_arrays(tensor)
        values = values if self.instead is None else self.instead
        output, *more = (each.name for each in request.outputs)
        add_output(response, output, values)
        if more:
            assert more == ["PROVENANCE"] and request.parameters["provenance"].bool_param
            told = json.dumps({"digest": self.digest}).encode()
            add_output(response, "PROVENANCE", np.array([[told]] * len(values), dtype=object))
        return Reply(response.SerializeToString())


class Site:
    """Both ends and the front between. `address` is the front's."""

    def __init__(
        self, cloud: Cloud, cascade: Cascade, edge: EngineLeg, server: Server, later: Later | None, address: str
    ) -> None:
        self.cloud, self.cascade, self.edge, self.server, self.later, self.address = cloud, cascade, edge, server, later, address

    @staticmethod
    @contextlib.asynccontextmanager
    async def run(
        folder: Path,
        *,
        away: AwaySettings | None = None,
        queue: LaterSettings | None = None,
        sink: Callable[[Delivered], Awaitable[None]] | None = None,
        engine: EngineSettings | None = None,
    ) -> AsyncIterator[Site]:
        """Run what lies in `edge`, `cloud` and `cascade` of a folder."""
        policy = load(folder / "cascade", DIGEST)
        edge = EngineLeg(folder / "edge", DIGEST, engine or EngineSettings("int8"), index=policy.edge)
        cloud = Cloud(folder / "cloud")
        await cloud.listen()
        settings = away or AwaySettings()
        remote = Remote("large", variant="fp32", digest=CLOUD_DIGEST, provenance=False, credentials=(("x-key", "s"),))
        far = RemoteLeg(
            remote,
            Channel(f"127.0.0.1:{cloud.port}"),
            edge.signature,
            index=policy.larger,
            changes=lambda: cloud.restarts,
        )
        way = Way(far, settings)
        later = None if queue is None else await Later.open(queue, sink)
        clients = Clients(None)
        door = Door(clients, None, Admission(FixedLimit(512)))
        stages = [Stage(edge, policy), Stage(way, None)]
        cascade = Cascade("m", edge.signature, stages, CascadeSettings(away=settings), later=later, who=door.client)
        if later is not None:
            later.start()
        server = Server(*Service({}, "0", door, Counts(), answering={"m": cascade}).methods())
        port = await server.listen("127.0.0.1", 0)
        try:
            yield Site(cloud, cascade, edge, server, later, f"127.0.0.1:{port}")
        finally:
            await server.drain(1.0)
            if later is not None:
                await later.close()
            await cascade.close()
            with contextlib.suppress(RpcError):
                await cloud.end()


DOWN = RpcError(Code.UNAVAILABLE, "down")
