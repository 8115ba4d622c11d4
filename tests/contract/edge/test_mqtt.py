"""Requests over MQTT: devices, bridges and a real Mosquitto. Backends are servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
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
from tests.support.oip_backend import Backend
from tests.support.pki import certificates
from tests.support.tiny_model import write_tiny_model
from tests.support.wire import run, until

from stillhouse.edge.certificates import Files, Front
from stillhouse.edge.config import read as read_config
from stillhouse.edge.gateway import Options
from stillhouse.edge.gateway import run as serve
from stillhouse.edge.guard.clients import Clients
from stillhouse.edge.mqtt.bridge import Bridge
from stillhouse.edge.mqtt.broker import Broker, Credentials, broker
from stillhouse.edge.mqtt.link import Link, LinkSettings
from stillhouse.edge.mqtt.notes import Arrived, notes
from stillhouse.edge.mqtt.sender import DeviceSettings, MqttSender
from stillhouse.edge.mqtt.topics import Topics
from stillhouse.edge.mqtt.words import CODE, INFER, TEXT, TIMEOUT
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import add_input, add_output, outputs_of
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.client import Channel
from stillhouse.edge.wire.server import Server
from stillhouse.errors import UsageError

COMMAND = (sys.executable, "-m", "stillhouse.entrypoints.bridge")
VECTOR = np.array([[0.5, -1.0, 2.0]], np.float32)


class Gated(Backend):
    """The echo, whose calls wait for `gate` while there is one. `most`: calls at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: asyncio.Event | None = None
        self.waiting = self.most = 0
        self.deadline: float | None = None

    async def infer(self, call: Call, body: bytes) -> Reply:
        self.deadline = call.deadline
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            if self.gate is not None:
                await self.gate.wait()
            return await super().infer(call, body)
        finally:
            self.waiting -= 1


@contextlib.asynccontextmanager
async def gated(found: Gated | None = None) -> AsyncIterator[Gated]:
    found = found or Gated()
    server = Server(found.methods())
    found.address = f"127.0.0.1:{await server.listen('127.0.0.1', 0)}"
    try:
        yield found
    finally:
        await server.drain(0.1)


def request(number: float = 0.0, model: str = "echo", **parameters: Any) -> bytes:
    made = message("ModelInferRequest")(model_name=model)
    add_input(made, "x", VECTOR + np.float32(number))
    for name, value in parameters.items():
        kind = "int64_param" if isinstance(value, int) else "double_param"
        setattr(made.parameters[name], kind, value)
    return bytes(made.SerializeToString())


def vector(reply: Reply) -> Any:
    return outputs_of(message("ModelInferResponse").FromString(reply.message))["x"]


def device(where: Broker, name: str = "press-7", **settings: Any) -> MqttSender:
    return MqttSender(where, DeviceSettings(name, **settings), uniform=lambda low, high: 0.05)


def bridge(where: Broker, backend: Backend, **settings: Any) -> contextlib.AbstractAsyncContextManager[Bridge]:
    return bridging(where, backend.address, **{"grace_s": 5.0, **settings})


@contextlib.asynccontextmanager
async def process(port: int, backend: Backend, *words: str, scheme: str = "mqtt") -> AsyncIterator[subprocess.Popen[str]]:
    """Run a bridge as a process, once it bridges."""
    command = [*COMMAND, f"--broker={scheme}://127.0.0.1:{port}", f"--model=echo={backend.address}", "--name=bridge-1", *words]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert started.stdout is not None
        assert await asyncio.to_thread(started.stdout.readline) == "bridging echo\n"
        yield started
    finally:
        started.kill()
        await asyncio.to_thread(started.wait, 10)


class Listener:
    """A client that sees everything and publishes anything."""

    def __init__(self, where: Broker) -> None:
        self.seen: list[Arrived] = []
        self.link = Link(where, LinkSettings("listener"), ["#"], self.seen.append)

    async def ask(self, topic: str, response: str, body: bytes, pairs: Any = (), key: bytes = b"k") -> None:
        await self.link.publish(topic, body, notes(pairs, correlation=key, response=response))

    async def answer(self, topic: str) -> Arrived:
        await until(lambda: any(each.topic == topic for each in self.seen))
        return next(each for each in self.seen if each.topic == topic)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Any:
    made = Mosquitto(tmp_path / "broker", "allow_anonymous true", "set_tcp_nodelay true")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def secured(tmp_path: Path) -> Any:
    """The broker of docs/mqtt.md: TLS, passwords, and a device that keeps to its own name."""
    certificates(tmp_path)
    access = tmp_path / "access"
    access.write_text(
        "user bridge\ntopic read stillhouse/infer/#\ntopic write stillhouse/answers/#\n"
        "pattern write stillhouse/infer/+/%u\npattern read stillhouse/answers/%u/#\n"
    )
    passwords = tmp_path / "passwords"
    made = Mosquitto(
        tmp_path / "broker",
        f"cafile {tmp_path}/authority.crt", f"certfile {tmp_path}/server.crt", f"keyfile {tmp_path}/server.key",
        "allow_anonymous false", f"password_file {passwords}", f"acl_file {access}",
    )  # fmt: skip
    made.passwords(passwords, {"bridge": "of the bridge", "press-7": "of the press"})
    for user, password in (("bridge", "of the bridge"), ("press-7", "of the press")):
        (tmp_path / f"{user}.user").write_text(user)
        (tmp_path / f"{user}.password").write_text(password + "\n")
    made.start()
    yield made
    made.stop()


def as_user(folder: Path, port: int, user: str) -> Broker:
    given = Credentials(folder / f"{user}.user", folder / f"{user}.password")
    return broker(f"mqtts://127.0.0.1:{port}", authority=folder / "authority.crt", credentials=given)


def plain(mosquitto: Mosquitto) -> Broker:
    return broker(f"mqtt://127.0.0.1:{mosquitto.port}")


def test_a_request_goes_there_and_back(secured: Mosquitto, tmp_path: Path) -> None:
    async def work() -> None:
        words = [f"--username-file={tmp_path}/bridge.user", f"--password-file={tmp_path}/bridge.password",
                 f"--authority={tmp_path}/authority.crt"]  # fmt: skip
        async with gated() as backend, process(secured.port, backend, *words, scheme="mqtts") as started:
            sender = device(as_user(tmp_path, secured.port, "press-7"))
            pool = Pool(lambda address: sender)
            pool.update({"cloud": 1.0})
            loop = asyncio.get_running_loop()
            trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            given = (("idempotency-key", "order-1"), ("traceparent", trace), ("authorization", "Bearer secret"))
            reply = await pool.unary(INFER, request(), metadata=given, told_s=20.0)
            assert np.array_equal(vector(reply), VECTOR)
            assert backend.metadata["idempotency-key"] == "order-1" and backend.metadata["traceparent"] == trace
            assert "authorization" not in backend.metadata
            assert backend.deadline is not None and backend.deadline - loop.time() < 20.0

            many = await asyncio.gather(*(sender.unary(INFER, request(each)) for each in range(50)))
            assert all(np.array_equal(vector(reply), VECTOR + np.float32(each)) for each, reply in enumerate(many))

            with pytest.raises(RpcError, match="as you wish") as caught:
                await sender.unary(INFER, request(fail=int(Code.FAILED_PRECONDITION)))
            assert caught.value.code == Code.FAILED_PRECONDITION
            with pytest.raises(RpcError) as caught:  # the broker holds a device to its own name, and tells it
                await device_as(tmp_path, secured.port, "press-7", "press-8")
            assert caught.value.code in (Code.PERMISSION_DENIED, Code.UNAVAILABLE)
            with pytest.raises(RpcError, match="nobody takes requests") as caught:
                await sender.unary(INFER, request(model="other"))
            assert caught.value.code == Code.UNAVAILABLE and caught.value.unprocessed
            await pool.close()
            started.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(started.wait, 10) == 0

    run(work())


def test_a_gateway_behind_a_bridge_is_asked_with_its_token_over_its_tls(mosquitto: Mosquitto, tmp_path: Path) -> None:
    certificates(tmp_path)
    (tmp_path / "tokens").mkdir()
    for file in (tmp_path / "tokens" / "bridge", tmp_path / "token"):
        file.write_text("a-token-of-the-bridge")
    front = Front(Files(tmp_path / "server.crt", tmp_path / "server.key"), None)
    port = free_port()
    tls = ("--backend-tls", f"--backend-authority={tmp_path}/authority.crt", f"--backend-token={tmp_path}/token")

    async def looked(path: str) -> tuple[int, str]:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()

    async def work() -> None:
        async with contextlib.AsyncExitStack() as held:
            behind = await held.enter_async_context(gated())
            stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
            clients = Clients(tmp_path / "tokens")
            options = Options({"echo": {behind.address: 1.0}}, "1", port=0, front=front, clients=clients)
            serving = asyncio.ensure_future(serve(options, stop, listening))
            behind.address = (await listening)["grpc"]
            sender = device(plain(mosquitto))
            for words, refused in ((tls[:2], "token"), ((*tls, "--backend-name=big.models.svc"), "be reached"), (tls, "")):
                async with process(mosquitto.port, behind, *words, f"--metrics=127.0.0.1:{port}") as bridge:
                    assert await looked("/readyz") == (200, "ok")
                    if refused:
                        with pytest.raises(RpcError, match=refused):
                            await sender.unary(INFER, request())
                    else:
                        assert np.array_equal(vector(await sender.unary(INFER, request())), VECTOR)
                        counted = 'stillhouse_bridge_answers_total{code="OK"} 1'
                        while counted not in (await looked("/metrics"))[1]:  # once the broker has acknowledged the answer
                            await asyncio.sleep(0.02)
                        await asyncio.to_thread(mosquitto.stop)
                        while (said := await looked("/readyz"))[0] == 200:
                            await asyncio.sleep(0.02)
                        assert said[1] and (await looked("/healthz"))[0] == 200
                    bridge.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(bridge.wait, 20) == 0
            await sender.close()
            stop.set()
            await serving

    run(work())


async def device_as(folder: Path, port: int, user: str, name: str) -> None:
    sender = device(as_user(folder, port, user), name)
    try:
        await sender.unary(INFER, request())
    finally:
        await sender.close()


def test_a_bridge_that_is_killed_loses_nothing(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with gated() as backend:
            sender = device(plain(mosquitto))
            backend.gate = asyncio.Event()
            async with process(mosquitto.port, backend) as first:
                asking = asyncio.ensure_future(sender.unary(INFER, request(), told_s=40.0))
                await until(lambda: backend.waiting == 1)
                first.send_signal(signal.SIGKILL)
                await until(lambda: backend.waiting == 0)  # its call died with it
            assert not backend.requests and not asking.done()
            backend.gate = None
            async with process(mosquitto.port, backend) as second:
                assert np.array_equal(vector(await asking), VECTOR)
                assert len(backend.requests) == 1
                second.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(second.wait, 10) == 0
            # It was acknowledged: a third bridge gets nothing but what comes then.
            async with process(mosquitto.port, backend):
                await sender.unary(INFER, request(1.0))
                assert len(backend.requests) == 2
            await sender.close()

    run(work())


def test_what_is_wrong_is_answered_and_what_cannot_be_is_dropped(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        listener = Listener(plain(mosquitto))
        listener.link.start()
        topic, place = "stillhouse/infer/echo/press-7", "stillhouse/answers/press-7"
        async with gated() as backend, bridge(plain(mosquitto), backend, largest=4096) as made:
            await until(lambda: listener.link.usable)
            for response in ("elsewhere/press-7", "stillhouse/answers/press-8/x", f"{place}/+", f"{place}/a/b", "$SYS/x", ""):
                await listener.ask(topic, response, request())
            await listener.ask(topic, f"{place}/malformed", b"\xff\xff\xff")
            await listener.ask(topic, f"{place}/other", request(model="other"))
            await listener.ask(topic, f"{place}/large", b"x" * 5000)
            await listener.ask(topic, f"{place}/late", request(slow=30.0), [(TIMEOUT, "50")])
            codes = {"malformed": 3, "other": 3, "large": 8, "late": 4}
            for name, code in codes.items():
                answer = await listener.answer(f"{place}/{name}")
                told = dict(answer.notes)
                assert told[CODE] == str(code) and told[TEXT] and answer.payload == b"" and answer.correlation == b"k", name
            # After the others' answers: the late one may come to the backend at any time before its own.
            await listener.ask(topic, f"{place}/good", request(), key=b"\x00\x01")
            good = await listener.answer(f"{place}/good")
            assert good.correlation == b"\x00\x01" and CODE not in dict(good.notes) and good.expiry_s
            assert np.array_equal(vector(Reply(good.payload)), VECTOR)
            assert backend.metadata["idempotency-key"] == "0001"
            await until(lambda: sum(made.counts.values()) == 11)  # an answer is counted once it is gone
            assert made.counts == {"refused": 6, "INVALID_ARGUMENT": 2, "RESOURCE_EXHAUSTED": 1, "DEADLINE_EXCEEDED": 1, "OK": 1}
            assert {each.topic for each in listener.seen} == {topic, *(f"{place}/{name}" for name in (*codes, "good"))}
        await listener.link.close()

    run(work())


def test_what_has_expired_is_not_computed_any_more(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with gated() as backend:
            sender = device(plain(mosquitto))
            async with bridge(plain(mosquitto), backend, stay=True):
                pass  # its session is at the broker now
            with pytest.raises(RpcError) as caught:
                await sender.unary(INFER, request(), told_s=0.5)
            assert caught.value.code == Code.DEADLINE_EXCEEDED
            with pytest.raises(RpcError):  # the broker counts in seconds: by the end of this one the first has expired
                await sender.unary(INFER, request(1.0), told_s=2.0)
            living = asyncio.ensure_future(sender.unary(INFER, request(2.0), told_s=30.0))
            async with bridge(plain(mosquitto), backend):
                assert np.array_equal(vector(await living), VECTOR + 2)
            seen = [each.raw_input_contents[0] for each in backend.requests]
            assert VECTOR.tobytes() not in seen and (VECTOR + 2).tobytes() in seen
            await sender.close()

    run(work())


def test_wrong_credentials(secured: Mosquitto, tmp_path: Path) -> None:
    async def work() -> None:
        async with gated() as backend:
            (tmp_path / "bridge.password").write_text("wrong")
            with pytest.raises(UsageError, match="refuses the bridge"):
                async with bridge(as_user(tmp_path, secured.port, "bridge"), backend):
                    pass
            (tmp_path / "press-7.password").write_text("wrong")
            sender = device(as_user(tmp_path, secured.port, "press-7"))
            with pytest.raises(RpcError, match="refuses us") as caught:
                await sender.unary(INFER, request())
            assert caught.value.code == Code.UNAVAILABLE and caught.value.unprocessed
            # The files are mended while it runs.
            (tmp_path / "press-7.password").write_text("of the press")
            await until(lambda: sender.ready)
            await sender.close()
        with pytest.raises(RpcError, match="the certificate of the broker"):
            await MqttSender(broker(f"mqtts://127.0.0.1:{secured.port}"), DeviceSettings("press-7")).unary(INFER, request())

    run(work())


def test_a_broker_that_is_restarted(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with gated() as backend, bridge(plain(mosquitto), backend, at_once=2) as made:
            sender = device(plain(mosquitto), patience_s=0.05)
            backend.gate = asyncio.Event()
            given = (("idempotency-key", "order-1"),)
            asking = asyncio.ensure_future(sender.unary(INFER, request(), metadata=given))
            await until(lambda: backend.waiting == 1)
            await asyncio.to_thread(mosquitto.stop)
            with pytest.raises(RpcError) as caught:
                await asking
            assert caught.value.code == Code.UNAVAILABLE and not caught.value.unprocessed
            with pytest.raises(RpcError) as caught:
                await sender.unary(INFER, request(1.0))
            assert caught.value.code == Code.UNAVAILABLE and caught.value.unprocessed
            await sender.close()
            await asyncio.to_thread(mosquitto.start)
            await until(lambda: made.ready)
            assert backend.waiting == 1  # it came again, and was under way
            backend.gate.set()
            await until(lambda: made.counts["OK"] == 1)

            # The answer waits for the device that was away, and its next attempt under the same key finds it.
            again = device(plain(mosquitto))
            again.start()
            await until(lambda: again.late == 1)
            assert np.array_equal(vector(await again.unary(INFER, request(), metadata=given)), VECTOR)
            assert len(backend.requests) == 1 and again.late == 0

            # The broker holds back what is beyond the bridge's receive maximum.
            backend.gate, backend.most = asyncio.Event(), 0
            asked = [asyncio.ensure_future(again.unary(INFER, request(each))) for each in range(6)]
            await until(lambda: backend.waiting == 2)
            backend.gate.set()
            await asyncio.gather(*asked)
            assert backend.most == 2
            await again.close()

    run(work())


def test_bridges_share_the_work_and_leave_nothing_behind(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with gated() as backend:
            sender = device(plain(mosquitto))
            backend.gate = asyncio.Event()
            async with bridge(plain(mosquitto), backend, name="bridge-2") as stays:
                async with bridge(plain(mosquitto), backend, at_once=1) as leaves:
                    asked = [asyncio.ensure_future(sender.unary(INFER, request(each))) for each in range(8)]
                    await until(lambda: backend.waiting == 5)  # four there, one here: three wait at the broker
                    backend.gate.set()
                await asyncio.gather(*asked)
                await until(lambda: sum(stays.counts.values()) >= 4)  # an answer is counted once it is gone
                assert leaves.counts == stays.counts == {"OK": 4}  # it left when all was answered that the broker had for it
                await asyncio.gather(*(sender.unary(INFER, request(each)) for each in range(8)))
                await until(lambda: sum(stays.counts.values()) >= 12)
                assert stays.counts == {"OK": 12}
            with pytest.raises(RpcError, match="nobody takes requests"):
                await sender.unary(INFER, request())
            await sender.close()

    run(work())


class Larger(Gated):
    """A larger model that is sure of the second label."""

    async def infer(self, call: Call, body: bytes) -> Reply:
        response = message("ModelInferResponse")(model_name="echo")
        add_output(response, "PROBABILITIES", np.array([[0.0, 1.0, 0.0]], np.float32))
        return Reply(response.SerializeToString())


def test_a_gateway_whose_larger_model_is_behind_a_broker(mosquitto: Mosquitto, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "edge", task="text-classification")
    write_cascade(tmp_path / "cascade", threshold=None)
    larger = {"kind": "mqtt", "model": "echo", "broker": f"mqtt://127.0.0.1:{mosquitto.port}", "device": "press-7"}
    about = {
        "version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"}, "away": {"policy": "answer"},
        "edge": {"kind": "engine", "folder": str(tmp_path / "edge"), "digest": DIGEST, "variant": "int8"},
        "cascade": {"folder": str(tmp_path / "cascade"), "larger": larger},
    }  # fmt: skip
    (tmp_path / "gateway.json").write_text(json.dumps(about))

    async def work() -> None:
        stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
        options = Options({}, "1", host="127.0.0.1", port=0, config=read_config(tmp_path / "gateway.json"), grace_s=1.0)
        running = asyncio.ensure_future(serve(options, stop, listening))
        await asyncio.wait([listening, running], return_when=asyncio.FIRST_COMPLETED)
        client = Channel(listening.result()["grpc"])
        body = ask_body(["read a file"], "PROBABILITIES")
        _, told = read((await client.unary(INFER, body, timeout_s=20.0)).message)
        assert told["leg"] == "edge" and told["away"] == "answer"  # no bridge is there
        async with gated(Larger()) as backend, bridge(plain(mosquitto), backend):
            arrays, told = read((await client.unary(INFER, body, timeout_s=20.0)).message)
            assert told["leg"] == "cloud" and arrays["PROBABILITIES"].tolist() == [[0.0, 1.0, 0.0]]
        await client.close()
        stop.set()
        await running

    run(work())


def test_names_and_addresses_are_checked() -> None:
    for url in ("http://host", "mqtt://", "mqtts://host:99999", "mqtt://user:secret@host", "host:1883"):
        with pytest.raises(UsageError) as caught:
            broker(url)
        assert "secret" not in str(caught.value)
    assert (broker("mqtts://[::1]").host, broker("mqtts://broker.example").port) == ("::1", 8883)
    for topics in (Topics("a/#"), Topics("/a"), Topics("a", "a/b"), Topics("$share/x"), Topics("a/")):
        with pytest.raises(UsageError):
            topics.check()
    with pytest.raises(UsageError):
        device(broker("mqtt://host"), "a/b")
