"""The disk is full under the gateway's process: queue, audit log and samples do as documented, and go on when there is room."""

from __future__ import annotations

import asyncio
import json
import resource
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.contract.edge.test_killed_process import Counting, written
from tests.support.cascade_site import DOWN
from tests.support.cascades import INFER, ask_body, read
from tests.support.gateway_process import gateway
from tests.support.kube.process import free_port
from tests.support.tiny_model import write_tiny_model
from tests.support.wire import run
from tests.support.wire import until as eventually

from stillhouse.edge.guard.audit.verify import verify
from stillhouse.edge.status import RpcError
from stillhouse.edge.wire.client import Channel

FULL = 16 << 10
"""Bytes beyond which no file may grow: to who writes, a disk that is full, and nobody has to be root."""


async def said(client: Channel, text: str) -> str:
    """Ask; give what became of it: `cloud`, `queued`, `edge`, or a code."""
    try:
        told = read((await client.unary(INFER, ask_body([text]), timeout_s=20)).message)[1]
    except RpcError as error:
        return error.code.name
    return "queued" if "queued" in told else str(told["leg"])


def ready(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("mode", ["required", "best-effort"])
def test_a_full_disk_is_told_and_forgotten_once_there_is_room(tmp_path: Path, mode: str) -> None:
    write_tiny_model(tmp_path / "cloud", task="text-classification", seed=1)

    async def main() -> None:
        cloud = Counting(tmp_path / "cloud")
        await cloud.listen()
        config, port = written(tmp_path, cloud.port), free_port()
        data: dict[str, Any] = json.loads(config.read_text())
        data["listen"]["metrics"] = f"127.0.0.1:{port}"
        data["guard"] = {"audit": {"folder": str(tmp_path / "audit"), "mode": mode}}
        data["agreement"] = {"sample": 1, "collect": {"folder": str(tmp_path / "samples"), "maxSize": 1 << 20}}
        config.write_text(json.dumps(data))
        running = gateway("--config", str(config))
        process = await asyncio.to_thread(running.__enter__)
        client, pid = Channel(process.address), process.process.pid
        given: list[str] = []

        async def until(wanted: str, text: str) -> None:
            for number in range(2000):
                given.append(await said(client, f"{text} {number}"))
                if given[-1] == wanted:
                    return
                await asyncio.sleep(0.005)
            raise AssertionError(f"never {wanted}: {given[-5:]}")

        try:
            await until("cloud", "all is well")
            cloud.error = DOWN
            await until("queued", "there is room")
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))
            if mode == "required":
                await until("UNAVAILABLE", "nothing can be written")
                assert await said(client, "nothing can be written") == "UNAVAILABLE"
                assert ready(port) == (503, "audit log: File too large\n")
            else:
                given += [await said(client, f"nothing can be written {number}") for number in range(60)]
                assert given[-1] == "edge", "the queue takes nothing, and promises nothing"
                assert ready(port) == (200, "ok\naudit log: File too large\n")
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await until("queued", "there is room again")
            cloud.error = None
            await until("cloud", "all is well again")
            await eventually(lambda: ready(port) == (200, "ok\n"))
        finally:
            await client.close()
            await asyncio.to_thread(running.__exit__, None, None, None)
            await cloud.end()
        report = verify(tmp_path / "audit")
        assert report.whole
        lines = [line for file in (tmp_path / "audit").glob("*.jsonl") for line in file.read_text().splitlines()]
        codes = [json.loads(line)["data"].get("code") for line in lines]
        assert codes.count("OK") == len(given) - given.count("UNAVAILABLE"), "what was answered is recorded"

    run(main())
