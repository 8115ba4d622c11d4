"""The operator's endpoint answers while the loop that it judges does not."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, Gauge
from tests.support import processes

from stillhouse.entrypoints.cluster import health
from stillhouse.entrypoints.cluster.beat import Beat


def ask(port: int, path: str) -> tuple[int, str]:
    return processes.ask(port, path, timeout_s=10)  # longer than the endpoint itself waits for the loop


def test_a_loop_that_is_stuck_is_told_and_one_that_turns_again_is_well() -> None:
    async def work() -> None:
        registry = CollectorRegistry()
        Gauge("depth", "of a queue", registry=registry).set_function(lambda: 7)
        beat = Beat(lambda: False, lag_s=0.5)
        beating = asyncio.create_task(beat.run())
        endpoint = await health.serve("127.0.0.1", 0, registry, alive=beat.wrong, ready=lambda: False)
        try:
            assert await asyncio.to_thread(ask, endpoint.port, "/healthz") == (200, "ok")
            assert (await asyncio.to_thread(ask, endpoint.port, "/readyz"))[0] == 503
            status, text = await asyncio.to_thread(ask, endpoint.port, "/metrics")
            assert (status, "depth 7.0" in text) == (200, True)
            deadline = time.monotonic() + 30
            while (told := ask(endpoint.port, "/healthz"))[0] == 200:  # asked in the loop itself: it does not turn meanwhile
                assert time.monotonic() < deadline, "nobody said so"
                time.sleep(0.05)
            assert told[0] == 500
            assert "the event loop has not turned" in told[1]
            await asyncio.sleep(0.2)
            assert await asyncio.to_thread(ask, endpoint.port, "/healthz") == (200, "ok")
        finally:
            beating.cancel()
            await endpoint.cleanup()

    asyncio.run(work())
