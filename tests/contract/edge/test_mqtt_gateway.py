"""A gateway whose larger model is behind a broker, as `still edge` starts it: Mosquitto, a bridge, backends on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession
from tests.support.bridges import bridging
from tests.support.cascades import DIGEST, ask_body, read, write_cascade
from tests.support.kube.process import free_port
from tests.support.mosquitto import Mosquitto
from tests.support.oip_backend import Backend, backend
from tests.support.pki import certificates
from tests.support.tiny_model import write_tiny_model
from tests.support.wire import run, until

from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.config import read as read_config
from stillhouse.edge.gateway import Options
from stillhouse.edge.gateway import run as serve
from stillhouse.edge.mqtt.bridge import Bridge
from stillhouse.edge.mqtt.broker import Broker, Credentials, broker
from stillhouse.edge.mqtt.joined import Senders
from stillhouse.edge.mqtt.link import Link, LinkSettings
from stillhouse.edge.mqtt.sender import DeviceSettings, MqttSender
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tensors import add_input, add_output, outputs_of
from stillhouse.edge.report import AtBroker as AtBrokerSeen
from stillhouse.edge.sections.places import LargerMqtt
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.client import Channel
from stillhouse.edge.wire.server import Server
from stillhouse.entrypoints.edge.brokers import AtBroker
from stillhouse.entrypoints.edge.preparing import Given, prepare
from stillhouse.entrypoints.edge.reporting import lines

DOOR = ("127.0.0.1", 0)
INFER = f"/{SERVICE}/ModelInfer"
SENSOR = [{"kind": "window", "length": 16, "hop": 5}, {"kind": "statistics", "names": ["mean", "rms"]}]


@contextlib.asynccontextmanager
async def gateway(options: Options) -> AsyncIterator[dict[str, str]]:
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(serve(options, stop, listening))
    await asyncio.wait([listening, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    try:
        yield listening.result()
    finally:
        stop.set()
        await running


def bridge(where: Broker, address: str) -> contextlib.AbstractAsyncContextManager[Bridge]:
    return bridging(where, address, grace_s=2.0)


async def status(address: str) -> dict[str, Any]:
    async with ClientSession() as session, session.get(f"http://{address}/status") as answer:
        found: dict[str, Any] = await answer.json()
        return found


@pytest.fixture
def secured(tmp_path: Path) -> Any:
    """A broker with TLS and passwords, and files of the users `bridge` and `press-7`."""
    certificates(tmp_path)
    passwords = tmp_path / "passwords"
    made = Mosquitto(
        tmp_path / "broker",
        f"cafile {tmp_path}/authority.crt", f"certfile {tmp_path}/server.crt", f"keyfile {tmp_path}/server.key",
        "allow_anonymous false", f"password_file {passwords}",
    )  # fmt: skip
    made.passwords(passwords, {"bridge": "of the bridge", "press-7": "of the press"})
    for user, password in (("bridge", "of the bridge"), ("press-7", "of the press")):
        (tmp_path / f"{user}.user").write_text(user)
        (tmp_path / f"{user}.password").write_text(password)
    made.start()
    yield made
    made.stop()


def test_features_travel_over_a_broker_as_still_edge_says(secured: Mosquitto, tmp_path: Path) -> None:
    spec = {
        "source": {"uri": "models:minilm", "task": "text-classification"},
        "edge": {"preprocess": {"steps": SENSOR, "model": "echo", "encoding": "fp16+zstd"}},
    }
    about = {"apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": "press"}, "spec": spec}
    (tmp_path / "edge.yaml").write_text(json.dumps(about))
    url = f"mqtts://127.0.0.1:{secured.port}"
    at_broker = AtBroker(tmp_path / "press-7.user", tmp_path / "press-7.password")
    ports = {"port": 0, "rest_port": 0, "metrics_port": 0}
    given = Given(url, tmp_path / "authority.crt", at_broker, **ports)  # type: ignore[arg-type]
    prepared = prepare(LocalStore(tmp_path / "home"), tmp_path / "edge.yaml", given)
    assert "of the press" not in prepared.config.read_text()
    samples = np.random.default_rng(3).normal(size=(2, 90, 2)).astype(np.float32)

    async def work() -> None:
        async with contextlib.AsyncExitStack() as held:
            behind = await held.enter_async_context(backend())
            # A gateway of ours before the model decodes what travels.
            cloud = await held.enter_async_context(gateway(Options({"echo": {behind.address: 1.0}}, "1", port=0)))
            credentials = Credentials(tmp_path / "bridge.user", tmp_path / "bridge.password")
            where = broker(url, authority=tmp_path / "authority.crt", credentials=credentials)
            await held.enter_async_context(bridge(where, cloud["grpc"]))
            at = await held.enter_async_context(
                gateway(Options({}, "1", port=0, config=read_config(prepared.config), metrics=DOOR))
            )
            client = Channel(at["grpc"])
            held.push_async_callback(client.close)
            request = message("ModelInferRequest")(model_name="press")
            add_input(request, "SIGNAL", samples)
            reply = await client.unary(INFER, request.SerializeToString(), timeout_s=20.0)
            (asked,) = behind.requests
            assert [(each.name, each.datatype, len(each.parameters)) for each in asked.inputs] == [("FEATURES", "FP32", 0)]
            answer = message("ModelInferResponse").FromString(reply.message)
            features = outputs_of(answer)["FEATURES"]
            assert features.shape[0] == 2 and np.abs(features[0, :2].ravel()[0] - samples[0, :16].mean(axis=0)[0]) < 1e-3
            for name in ("ModelReady", "ModelMetadata"):
                body = message(f"{name}Request")(name="press").SerializeToString()
                told = message(f"{name}Response").FromString((await client.unary(f"/{SERVICE}/{name}", body)).message)
                assert told.ready if name == "ModelReady" else [each.name for each in told.inputs] == ["SIGNAL"]
            seen = await status(at["metrics"])
            assert seen["cloud"]["brokers"] == {url: {"connected": True, "device": "press-7", "words": ""}}
            said = [*lines({**seen, "listen": at, "pid": 1})]
            assert f"  broker       {url} as press-7: connected" in said
            await asyncio.to_thread(secured.kill)
            while (await status(at["metrics"]))["cloud"]["brokers"][url]["connected"]:
                await asyncio.sleep(0.01)
            assert (await status(at["metrics"]))["cloud"]["brokers"][url]["words"]

    run(work())


def test_what_is_wrong_is_said_with_what_to_do(secured: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    (tmp_path / "other").mkdir()
    certificates(tmp_path / "other")
    authority, url = tmp_path / "authority.crt", f"mqtts://127.0.0.1:{secured.port}"
    wrong = Credentials(tmp_path / "press-7.user", tmp_path / "wrong")
    closed = free_port()

    async def words(where: Broker) -> str:
        link = Link(where, LinkSettings("press-7"), ["x"], lambda arrived: None)
        link.start()
        await link.settled.wait()
        await link.close()
        return link.words

    async def work() -> None:
        said = await words(broker(url, authority=authority, credentials=wrong))
        assert "refuses us" in said and "mend the files of user and password" in said and str(tmp_path) not in said
        assert "give it a user and a password" in await words(broker(url, authority=authority))
        said = await words(broker(f"mqtt://127.0.0.1:{closed}"))
        assert f"127.0.0.1:{closed}" in said and "see whether it runs there" in said
        said = await words(broker(url, authority=tmp_path / "other" / "authority.crt"))
        assert "certificate of the broker" in said and "--cloud-authority" in said

    run(work())


class Larger(Backend):
    """A larger model that is sure of the second label, and knows by which keys it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []
        self.gate: asyncio.Event | None = None

    async def infer(self, call: Call, body: bytes) -> Reply:
        self.keys.append(dict(call.metadata)["idempotency-key"])
        if self.gate is not None:
            await self.gate.wait()
        response = message("ModelInferResponse")(model_name="echo")
        add_output(response, "PROBABILITIES", np.array([[0.0, 1.0, 0.0]], np.float32))
        return Reply(response.SerializeToString())


def test_a_broker_that_is_killed_loses_nothing_that_the_queue_has(tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path / "broker", "allow_anonymous true")
    mosquitto.start()
    write_tiny_model(tmp_path / "edge", task="text-classification")
    write_cascade(tmp_path / "cascade", threshold=None)
    url = f"mqtt://127.0.0.1:{mosquitto.port}"
    about = {
        "version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"},
        "away": {"policy": "queue", "queue": {"folder": str(tmp_path / "queue"), "maxSize": 1 << 20, "maxAge": 3600}},
        "edge": {"kind": "engine", "folder": str(tmp_path / "edge"), "digest": DIGEST, "variant": "int8"},
        "cascade": {
            "folder": str(tmp_path / "cascade"),
            "larger": {"kind": "mqtt", "model": "echo", "broker": url, "device": "press-7"},
        },
    }  # fmt: skip
    (tmp_path / "gateway.json").write_text(json.dumps(about))
    where = broker(url)
    options = Options({}, "1", host="127.0.0.1", port=0, config=read_config(tmp_path / "gateway.json"), grace_s=1.0, metrics=DOOR)

    async def ask(client: Channel, key: str) -> dict[str, Any]:
        body, headers = ask_body([f"read file {key}"], "PROBABILITIES"), (("idempotency-key", key),)
        return read((await client.unary(INFER, body, metadata=headers, timeout_s=30.0)).message)[1]

    async def work() -> None:
        larger = Larger()
        server = Server(larger.methods())
        address = f"127.0.0.1:{await server.listen('127.0.0.1', 0)}"
        try:
            async with gateway(options) as at, bridge(where, address) as bridging:
                client = Channel(at["grpc"])
                larger.gate = asyncio.Event()
                under_way = [asyncio.ensure_future(ask(client, f"before-{each}")) for each in range(3)]
                await until(lambda: len(larger.keys) == 3)
                await asyncio.to_thread(mosquitto.kill)  # in the middle: the requests are at the model
                larger.gate.set()
                told = [*await asyncio.gather(*under_way), *[await ask(client, f"during-{each}") for each in range(3)]]
                assert [each["away"] for each in told] == ["queue"] * 6
                kept = [each["queued"] for each in told]
                assert kept == [f"before-{each}" for each in range(3)] + [f"during-{each}" for each in range(3)]
                assert (await status(at["metrics"]))["cloud"]["queue"]["waiting"] == 6
                await asyncio.to_thread(mosquitto.start)
                while (await status(at["metrics"]))["cloud"]["queue"]["delivered"] < 6:
                    await asyncio.sleep(0.05)
                await until(lambda: bridging.ready)
                queue = (await status(at["metrics"]))["cloud"]["queue"]
                assert (queue["waiting"], queue["delivered"], queue["failed"], queue["expired"]) == (0, 6, 0, 0)
                assert set(larger.keys) == set(kept)
                asked = len(larger.keys)
                answers = [await ask(client, key) for key in kept]
                assert {each["leg"] for each in answers} == {"cloud"}
                assert len(larger.keys) == asked, "each was answered already, once"
                await client.close()
        finally:
            await server.drain(0.1)

    try:
        run(work())
    finally:
        mosquitto.stop()


def test_without_a_bridge_the_words_say_so(tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path / "broker", "allow_anonymous true")
    mosquitto.start()

    async def work() -> None:
        sender = MqttSender(broker(f"mqtt://127.0.0.1:{mosquitto.port}"), DeviceSettings("press-7"))
        with pytest.raises(RpcError, match="no bridge runs for this model") as caught:
            await sender.unary(INFER, message("ModelInferRequest")(model_name="echo").SerializeToString())
        assert caught.value.code == Code.UNAVAILABLE
        await sender.close()

    try:
        run(work())
    finally:
        mosquitto.stop()


def test_models_behind_one_broker_share_a_connection(tmp_path: Path) -> None:
    """A broker ends the older of two connections of one name: of a pipeline's steps each would end the other's."""
    mosquitto = Mosquitto(tmp_path / "broker", "allow_anonymous true")
    mosquitto.start()
    url = f"mqtt://127.0.0.1:{mosquitto.port}"

    async def work() -> None:
        brokers = Senders()
        given = [LargerMqtt(kind="mqtt", model=each, broker=url, device="press-7") for each in ("echo", "other")]
        pools = [brokers.pool_over(each, 1 << 20) for each in given]
        async with backend() as behind, bridge(broker(url), behind.address):
            request = message("ModelInferRequest")(model_name="echo")
            add_input(request, "x", np.zeros((1, 3), np.float32))
            await pools[0].unary(INFER, request.SerializeToString())
            request.model_name = "other"
            with pytest.raises(RpcError, match="nobody takes requests"):
                await pools[1].unary(INFER, request.SerializeToString())
            assert brokers.seen() == [AtBrokerSeen(url, "press-7", True, "")]
            for each in pools:
                await each.close()
            assert not brokers.seen()[0].connected

    try:
        run(work())
    finally:
        mosquitto.stop()
