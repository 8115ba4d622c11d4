"""The gateway's process is killed at any moment, while it takes requests in and while it delivers them; and is asked to end."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.support.cascade_site import DOWN, Cloud
from tests.support.cascades import DIGEST, INFER, ask_body, read, write_cascade
from tests.support.gateway_process import gateway
from tests.support.tiny_model import WORDS, write_tiny_model
from tests.support.wire import run, until

from stillhouse.edge.oip.tensors import inputs_of
from stillhouse.edge.status import KEY, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.client import Channel
from stillhouse.edge.wire.server import Server

LIVES = 5


class Counting(Cloud):
    """Counts what it has answered: key → texts, in their order."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answered: defaultdict[str, list[str]] = defaultdict(list)
        self.late = 0

    async def _infer(self, call: Call, body: bytes) -> Reply:
        reply = await super()._infer(call, body)
        key = dict(call.metadata).get(KEY)
        if key is not None:
            (tensor,) = inputs_of(self.requests[-1]).values()
            self.answered[str(key)].append(tensor.ravel()[0].decode())
            self.late += 1
        return reply


def written(folder: Path, cloud: int) -> Path:
    write_tiny_model(folder / "edge", task="text-classification")
    write_cascade(folder / "cascade", threshold=None)
    config = folder / "gateway.json"
    config.write_text(
        json.dumps({
            "version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"},
            "edge": {"kind": "engine", "folder": str(folder / "edge"), "digest": DIGEST, "variant": "int8"},
            "cascade": {
                "folder": str(folder / "cascade"),
                "larger": {"kind": "backends", "model": "large", "backends": {f"127.0.0.1:{cloud}": 1.0}},
            },
            "away": {"policy": "queue", "queue": {"folder": str(folder / "queue"), "maxSize": 1 << 26, "maxAge": 3600}},
        })
    )  # fmt: skip
    return config


async def asks(address: str, name: str, kept: dict[str, str]) -> None:
    """Ask from a side of its own until the process is gone; note what was acknowledged: text → key."""
    client = Channel(address)
    try:
        for number in range(10_000):
            text = f"{name} {number} {WORDS[4 + number % 14]}"
            told = read((await client.unary(INFER, ask_body([text]), timeout_s=20)).message)[1]
            if "queued" in told:
                assert kept.setdefault(text, told["queued"]) == told["queued"]
    except RpcError:
        pass
    finally:
        await client.close()


def test_what_a_client_was_told_is_kept_is_delivered_whenever_the_process_is_killed(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "cloud", task="text-classification", seed=1)

    async def life(cloud: Counting, config: Path, number: int, chance: random.Random, kept: dict[str, str]) -> None:
        """Deliver what is left of earlier lives, take in more, and be killed in the one or in the other."""
        loop = asyncio.get_running_loop()
        before, had = cloud.late, len(kept)
        cloud.error = None
        running = gateway("--config", str(config))
        process = await loop.run_in_executor(None, running.__enter__)
        try:
            if had:
                some = before + chance.randrange(1, 15)
                await until(lambda: cloud.late >= some)
            if not had or chance.random() < 0.6:
                cloud.error = DOWN
                sides = [asyncio.ensure_future(asks(process.address, f"{number}.{side}", kept)) for side in "abcd"]
                more = had + chance.randrange(20, 90)
                await until(lambda: len(kept) >= more)
                process.process.kill()
                await asyncio.gather(*sides)
            process.process.kill()
        finally:
            await loop.run_in_executor(None, running.__exit__, None, None, None)

    async def main() -> None:
        chance, kept = random.Random(11), dict[str, str]()
        cloud = Counting(tmp_path / "cloud")
        await cloud.listen()
        config = written(tmp_path, cloud.port)
        for number in range(LIVES):
            await life(cloud, config, number, chance, kept)
        cloud.error = None
        running: Any = gateway("--config", str(config))
        process = await asyncio.to_thread(running.__enter__)
        try:
            await until(lambda: all(key in cloud.answered for key in kept.values()), 30)
            client = Channel(process.address)
            for text, key in chance.sample(sorted(kept.items()), 5):
                reply = await client.unary(INFER, ask_body([text]), metadata=((KEY, key),), timeout_s=20)
                assert read(reply.message)[1]["leg"] == "cloud", "its late answer is there, whichever life it was asked in"
            await client.close()
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
        await cloud.end()
        assert len(kept) > 20 * LIVES / 2 and len(set(kept.values())) == len(kept)
        for text, key in kept.items():
            assert set(cloud.answered[key]) == {text}, "one key, one request, however often it came"
        owners = defaultdict(set)
        for key, texts in cloud.answered.items():
            for text in texts:
                owners[text].add(key)
        assert all(len(keys) == 1 for keys in owners.values()), "a request that comes again has the same key"

    run(main())


def test_asked_to_end_many_times_it_ends_once_and_what_is_under_way_is_answered() -> None:
    """A terminal that closes, an impatient user and an orchestrator at once: SIGHUP, SIGINT, SIGTERM, again and again."""

    async def main() -> None:
        begun: list[Call] = []
        go_on = asyncio.Event()

        async def waits(call: Call, body: bytes) -> Reply:
            begun.append(call)
            await go_on.wait()
            return Reply(b"")

        backend = Server({}, otherwise=waits)
        port = await backend.listen("127.0.0.1", 0)
        running: Any = gateway(f"--model=m=127.0.0.1:{port}")
        process = await asyncio.to_thread(running.__enter__)
        client = Channel(process.address)
        calls = [asyncio.ensure_future(client.unary(INFER, ask_body(["x"]), timeout_s=20)) for _ in range(20)]
        await until(lambda: len(begun) == 20)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM) * 50:
            process.process.send_signal(number)
        await until(lambda: closed(process.address))
        assert process.process.poll() is None
        go_on.set()
        assert {reply.message for reply in await asyncio.gather(*calls)} == {b""}
        await client.close()
        assert await asyncio.to_thread(process.process.wait, 20) == 0
        await asyncio.to_thread(running.__exit__, None, None, None)
        await backend.drain(0.1)

    run(main())


def closed(address: str) -> bool:
    """Say whether nobody listens there any more."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
