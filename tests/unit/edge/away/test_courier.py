"""The courier: what it delivers, what it tries again, and what it leaves in the queue when it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from stillhouse.edge.away.courier import Courier
from stillhouse.edge.away.queue import DiskQueue
from stillhouse.edge.away.records import Outcome, QueueState, Record
from stillhouse.edge.status import Code, Refused, RpcError


class Cloud:
    """Answers, or fails as it is told, per key."""

    def __init__(self, **script: list[Exception]) -> None:
        self.script = script
        self.sent: list[str] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, record: Record) -> bytes:
        key = record.request.key
        self.sent.append(key)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(0)
            if self.script.get(key):
                raise self.script[key].pop(0)
            return b"answer to " + record.request.body
        finally:
            self.at_once -= 1


def play(tmp_path: Path, cloud: Cloud, *keys: str, until: Callable[[DiskQueue], bool], **how) -> dict[str, Outcome]:
    """Deliver these keys until something holds; give where they stand."""

    async def main() -> dict[str, Outcome]:
        queue = await DiskQueue.open(tmp_path / "queue.sqlite3")
        for key in keys:
            await queue.put("/infer", key.encode(), key=key)
        courier = asyncio.create_task(Courier(queue, cloud, uniform=lambda low, high: low, **how).run())
        while not until(queue):
            assert not courier.done(), courier.exception()
            await asyncio.sleep(0.001)
        courier.cancel()
        await asyncio.wait([courier])
        assert courier.cancelled()
        found = {key: await queue.outcome("", key) for key in keys}
        await queue.close()
        return {key: each for key, each in found.items() if each is not None}

    return asyncio.run(main())


def nothing_waits(queue: DiskQueue) -> bool:
    stand = queue.stand()
    return stand.waiting == 0 and stand.delivered + stand.failed > 0


def test_everything_is_delivered_oldest_first(tmp_path: Path) -> None:
    cloud = Cloud()
    keys = [f"k{each:02}" for each in range(20)]
    found = play(tmp_path, cloud, *keys, until=nothing_waits, at_once=1)
    assert cloud.sent == keys
    assert {each.state for each in found.values()} == {QueueState.DELIVERED}
    assert found["k07"].body == b"answer to k07"


def test_so_many_at_once_and_no_more(tmp_path: Path) -> None:
    cloud = Cloud()
    play(tmp_path, cloud, *(f"k{each}" for each in range(20)), until=nothing_waits, at_once=3)
    assert cloud.most_at_once == 3


@pytest.mark.parametrize(
    "error",
    [
        RpcError(Code.UNAVAILABLE),
        RpcError(Code.DEADLINE_EXCEEDED),
        RpcError(Code.RESOURCE_EXHAUSTED),
        RpcError(Code.UNAVAILABLE, pushback="0"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_while_the_cloud_is_away_a_request_is_tried_again_without_end(tmp_path: Path, error: Exception) -> None:
    cloud = Cloud(a=[error] * 30)
    found = play(tmp_path, cloud, "a", until=nothing_waits)
    assert found["a"].state is QueueState.DELIVERED
    assert found["a"].attempts == len(cloud.sent) == 31


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.UNIMPLEMENTED])
def test_a_request_that_is_wrong_fails_at_once(tmp_path: Path, code: Code) -> None:
    cloud = Cloud(a=[RpcError(code, "no")])
    found = play(tmp_path, cloud, "a", until=nothing_waits)
    assert (found["a"].state, found["a"].code, found["a"].message) == (QueueState.FAILED, code, "no")
    assert cloud.sent == ["a"]


@pytest.mark.parametrize("error", [RpcError(Code.INTERNAL, "broken"), ValueError("broken")])
def test_one_that_may_be_the_cause_is_tried_five_times(tmp_path: Path, error: Exception) -> None:
    cloud = Cloud(a=[error] * 99)
    found = play(tmp_path, cloud, "a", "b", until=nothing_waits)
    assert found["a"].state is QueueState.FAILED
    assert "broken" in found["a"].message
    assert cloud.sent.count("a") == 5
    assert found["b"].state is QueueState.DELIVERED


def test_what_was_never_sent_is_no_attempt(tmp_path: Path) -> None:
    cloud = Cloud(a=[Refused(Code.UNAVAILABLE, "the breaker is open")] * 20)
    found = play(tmp_path, cloud, "a", until=nothing_waits)
    assert found["a"].attempts == 1


def test_while_the_breaker_is_open_nothing_is_taken(tmp_path: Path) -> None:
    cloud, asked = Cloud(), [0]

    def away() -> float:
        asked[0] += 1
        return 0.001 if asked[0] < 5 else 0.0

    play(tmp_path, cloud, "a", until=nothing_waits, away=away)
    assert asked[0] >= 5
    assert cloud.sent == ["a"]


def test_what_is_under_way_when_it_stops_goes_back(tmp_path: Path) -> None:
    class Slow(Cloud):
        async def __call__(self, record: Record) -> bytes:
            self.sent.append(record.request.key)
            await asyncio.sleep(3600)
            return b""

    cloud = Slow()
    found = play(tmp_path, cloud, "a", "b", until=lambda queue: len(cloud.sent) == 2)
    assert {each.state for each in found.values()} == {QueueState.WAITING}
    again = Cloud()
    play(tmp_path, again, until=nothing_waits)
    assert sorted(again.sent) == ["a", "b"]


def test_another_courier_of_the_same_queue_takes_over_what_one_left(tmp_path: Path) -> None:
    async def main() -> None:
        queue = await DiskQueue.open(tmp_path / "queue.sqlite3")
        await queue.put("/infer", b"", key="a")
        sending = asyncio.Event()

        async def never(record: Record) -> bytes:
            sending.set()
            await asyncio.sleep(3600)
            return b""

        first = asyncio.create_task(Courier(queue, never).run())
        await sending.wait()
        first.cancel()
        await asyncio.wait([first])
        assert queue.stand().in_delivery == 0
        second = asyncio.create_task(Courier(queue, Cloud()).run())
        async with asyncio.timeout(60):
            while queue.stand().delivered < 1:
                await asyncio.sleep(0.001)
        second.cancel()
        await asyncio.wait([second])
        await queue.close()

    asyncio.run(main())


def test_what_comes_while_it_sleeps_wakes_it(tmp_path: Path) -> None:
    async def main() -> None:
        queue = await DiskQueue.open(tmp_path / "queue.sqlite3")
        cloud = Cloud()
        courier = asyncio.create_task(Courier(queue, cloud).run())
        for each in range(5):
            await asyncio.sleep(0.002)
            await queue.put("/infer", b"", key=f"k{each}")
        async with asyncio.timeout(60):
            while queue.stand().delivered < 5:
                await asyncio.sleep(0.001)
        courier.cancel()
        await asyncio.wait([courier])
        await queue.close()

    asyncio.run(main())
