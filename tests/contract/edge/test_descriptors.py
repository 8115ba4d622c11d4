"""A gateway that has no descriptor left for another connection."""

from __future__ import annotations

import resource
import select
import socket
import time

import psutil
from tests.support.gateway_process import gateway
from tests.support.wire import run, until

from stillhouse.edge.oip.messages import SERVICE
from stillhouse.edge.wire.client import Channel

SPARE = 20


def test_more_connections_than_descriptors_cost_no_life_and_no_time_of_the_processor() -> None:
    with gateway("--model=echo=127.0.0.1:9") as running:
        process = psutil.Process(running.process.pid)
        most = process.num_fds() + SPARE
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
        host, _, port = running.address.rpartition(":")
        lines = [socket.create_connection((host, int(port)), timeout=10) for _ in range(4 * SPARE)]

        async def full() -> None:
            await until(lambda: process.num_fds() >= most - 1)

        run(full())
        before = sum(process.cpu_times()[:2])
        time.sleep(1.0)
        assert sum(process.cpu_times()[:2]) - before < 0.5, "it runs in circles for connections that it cannot take"
        assert running.process.poll() is None

        async def turned_away() -> None:  # who finds no place is told so and does not hang
            await until(lambda: len(select.select(lines, [], [], 0)[0]) >= 2 * SPARE)

        run(turned_away())
        for line in lines:
            line.close()

        async def after() -> None:
            await until(lambda: process.num_fds() < most - SPARE // 2)
            channel = Channel(running.address)
            await channel.unary(f"/{SERVICE}/ServerLive", b"", timeout_s=10)
            await channel.close()

        run(after())
        assert not any("Traceback" in line for line in running.lines)
