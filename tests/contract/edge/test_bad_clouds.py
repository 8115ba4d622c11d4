"""A whole gateway whose cloud is bad: with policy `answer` a client gets the small model's answer, in its time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.bad_clouds import WAYS, bad_cloud, bad_line
from tests.support.cascade_site import Cloud
from tests.support.cascades import DIGEST, INFER, ask_body, read, write_cascade
from tests.support.pki import certificates
from tests.support.tiny_model import write_tiny_model
from tests.support.wire import run, until

from stillhouse.edge.config import read as read_config
from stillhouse.edge.gateway import Options
from stillhouse.edge.gateway import run as serve
from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.client import Channel

BODY = ask_body(["read a file"], "PROBABILITIES", "LEG")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that is never sure enough."""
    folder = tmp_path_factory.mktemp("bad")
    write_tiny_model(folder / "edge", task="text-classification")
    write_tiny_model(folder / "cloud", task="text-classification", seed=1)
    write_cascade(folder / "cascade", threshold=None)
    return folder


@contextlib.asynccontextmanager
async def gateway(folder: Path, cloud: str, policy: str = "answer", **larger: Any) -> AsyncIterator[Channel]:
    """Run a gateway of a configuration file; give a client of it."""
    file = folder / "gateway.json"
    about = {
        "version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"},
        "edge": {"kind": "engine", "folder": str(folder / "edge"), "digest": DIGEST, "variant": "int8"},
        "cascade": {
            "folder": str(folder / "cascade"),
            "larger": {"kind": "backends", "model": "large", "backends": {cloud: 1.0}, **larger},
        },
        "away": {"policy": policy},
    }  # fmt: skip
    file.write_text(json.dumps(about))
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(
        serve(Options({}, "1", host="127.0.0.1", port=0, config=read_config(file), grace_s=1.0), stop, listening)
    )
    await asyncio.wait([listening, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    client = Channel(listening.result()["grpc"])
    try:
        yield client
    finally:
        await client.close()
        stop.set()
        await asyncio.wait_for(running, 20)


async def holds_out(client: Channel, together: int = 10, timeout_s: float = 5.0) -> None:
    """Ask often enough for the breaker to open, at once and one after the other; every answer is the small model's."""
    asked = [client.unary(INFER, BODY, timeout_s=timeout_s) for _ in range(together)]
    replies = await asyncio.gather(*asked)
    replies += [await client.unary(INFER, BODY, timeout_s=timeout_s) for _ in range(5)]
    for reply in replies:
        tensors, told = read(reply.message)
        assert (told["away"], told["leg"]) == ("answer", "edge")
        assert tensors["LEG"].ravel().tolist() == [b"edge"]
        assert tensors["PROBABILITIES"].shape == (1, 3)


@pytest.mark.parametrize("way", WAYS)
def test_who_asks_is_answered_whatever_the_cloud_does(folder: Path, way: str) -> None:
    async def main() -> None:
        async with bad_cloud(way) as cloud, gateway(folder, cloud.address) as client:
            await holds_out(client)
            assert cloud.connections > 0

    run(main())


@contextlib.asynccontextmanager
async def good_cloud(folder: Path) -> AsyncIterator[str]:
    cloud = Cloud(folder / "cloud")
    await cloud.listen()
    try:
        yield f"127.0.0.1:{cloud.port}"
    finally:
        await cloud.end()


def test_a_cloud_whose_answers_come_too_late(folder: Path) -> None:
    async def main() -> None:
        async with good_cloud(folder) as cloud, bad_line(cloud) as line, gateway(folder, line.address) as client:
            assert await leg(client) == "cloud"
            line.late_s = 5.5
            await holds_out(client)
            await until(lambda: line.late >= 30)  # to nobody: what they are for was answered; the line goes on
            line.late_s = 0.0
            await answered_by_the_cloud(client)

    run(main())


def test_a_cloud_that_comes_and_goes_costs_no_answer(folder: Path) -> None:
    async def main() -> None:
        async with good_cloud(folder) as cloud, bad_line(cloud) as line, gateway(folder, line.address) as client:

            async def flap() -> None:
                for turn in range(30):
                    await asyncio.sleep(0.1)
                    line.turn(up=turn % 2 == 1)

            assert await leg(client) == "cloud"
            flapping = asyncio.ensure_future(flap())
            legs = set()
            while not flapping.done():
                legs |= set(await asyncio.gather(*(leg(client) for _ in range(5))))
                await asyncio.sleep(0.02)
            await flapping
            assert "edge" in legs and line.breaks == 15
            await answered_by_the_cloud(client)

    run(main())


async def leg(client: Channel) -> str:
    """Ask; give the leg that answered, in time. It is the small model only where the cloud is away."""
    told = read((await client.unary(INFER, BODY, timeout_s=3.0)).message)[1]
    assert told.get("away") == ("answer" if told["leg"] == "edge" else None)
    return str(told["leg"])


async def answered_by_the_cloud(client: Channel) -> None:
    """Ask until the breaker has seen that the cloud is there again."""
    for _ in range(400):
        if await leg(client) == "cloud":
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the cloud is there, and nobody asks it")


def test_a_cloud_that_does_not_even_shake_hands(folder: Path, tmp_path: Path) -> None:
    certificates(tmp_path)
    how: dict[str, Any] = {"tls": True, "authority": str(tmp_path / "authority.crt")}

    async def main() -> None:
        async with bad_cloud("black hole") as cloud, gateway(folder, cloud.address, **how) as client:
            await holds_out(client)
            assert cloud.connections > 0

    run(main())


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("another authority", "self-signed certificate|unable to get local issuer|certificate signature failure"),
        ("expired", "certificate has expired"),
        ("another name", "Hostname mismatch|hostname"),
        ("no TLS", "SSL|TLS|wrong version|record layer"),
    ],
)
def test_a_cloud_with_a_wrong_certificate_is_away_and_the_log_says_why(
    folder: Path, tmp_path: Path, case: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for each in (ours, theirs):
        each.mkdir()
        certificates(each, hours=-1.0 if case == "expired" else 1.0)
    tls = None if case == "no TLS" else front(theirs if case == "another authority" else ours)
    how: dict[str, Any] = {"tls": True, "authority": str(ours / "authority.crt")}

    async def main() -> None:
        async with bad_cloud("deaf", tls) as cloud:
            address = cloud.address.replace("127.0.0.1", "localhost") if case == "another name" else cloud.address
            async with gateway(folder, address, **how) as client:
                await holds_out(client)
            async with gateway(folder, address, "fail", **how) as client:
                with pytest.raises(RpcError, match="the larger model is away") as caught:
                    await client.unary(INFER, BODY, timeout_s=5.0)
                assert caught.value.code == Code.UNAVAILABLE
        assert re.search(says, caplog.text)

    run(main())


def front(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    context.set_alpn_protocols(["h2"])
    return context


@pytest.mark.parametrize("policy", ["fail", "answer"])
def test_no_client_is_told_where_the_cloud_is(folder: Path, policy: str) -> None:
    async def main() -> None:
        async with gateway(folder, "127.0.0.1:9", policy) as client:
            for _ in range(8):  # the breaker opens meanwhile
                if policy == "answer":
                    assert b"127.0.0.1" not in (await client.unary(INFER, BODY)).message
                    continue
                with pytest.raises(RpcError, match="the larger model is away") as refused:
                    await client.unary(INFER, BODY)
                assert "127.0.0.1" not in refused.value.message

    run(main())
