"""The disk queue: order, keys, bounds, ages, outcomes, and what it does when the disk refuses."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support.edge_clocks import HandClocks

from stillhouse.edge.away.queue import DiskQueue
from stillhouse.edge.away.records import Limits, QueueError, QueueFull, QueueState
from stillhouse.edge.status import Code, Refused

Play = Callable[[DiskQueue, HandClocks], Coroutine[Any, Any, Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "away" / "queue.sqlite3"


def play(path: Path, part: Play, limits: Limits | None = None, clocks: HandClocks | None = None) -> Any:
    """Open a queue, do something with it, close it."""
    clocks = clocks or HandClocks()

    async def main() -> Any:
        queue = await DiskQueue.open(path, limits, clocks=clocks)
        try:
            return await part(queue, clocks)
        finally:
            await queue.close()

    return asyncio.run(main())


async def fill(queue: DiskQueue, *keys: str) -> None:
    for key in keys:
        await queue.put("/infer", f"body of {key}".encode(), key=key)


async def take(queue: DiskQueue, most: int = 1) -> list[str]:
    records, _ = await queue.take(most)
    return [each.request.key for each in records]


def test_what_was_put_is_there_after_a_restart_as_it_was(path: Path) -> None:
    async def first(queue: DiskQueue, clocks: HandClocks) -> str:
        kept = await queue.put("/infer", b"\x00\xffbody", owner="client", headers=(("traceparent", "00-1"), ("x", "ä")))
        assert kept.state is QueueState.WAITING
        return kept.key

    async def second(queue: DiskQueue, clocks: HandClocks) -> None:
        ((record,), due) = await queue.take(5)
        assert due is None
        assert record.request.key == key
        assert record.request.body == b"\x00\xffbody"
        assert record.request.owner == "client"
        assert record.request.headers == (("traceparent", "00-1"), ("x", "ä"))
        assert record.attempts == 0

    key = play(path, first)
    play(path, second)


def test_only_its_owner_may_read_the_file(path: Path) -> None:
    async def part(queue: DiskQueue, clocks: HandClocks) -> None:
        await fill(queue, "a")
        for each in path.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each

    play(path, part)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_first_in_first_out_and_what_was_taken_is_not_taken_again(path: Path) -> None:
    async def part(queue: DiskQueue, clocks: HandClocks) -> None:
        await fill(queue, "a", "b", "c")
        assert await take(queue, 2) == ["a", "b"]
        assert await take(queue, 2) == ["c"]
        assert await take(queue, 2) == []
        assert queue.stand().in_delivery == 3

    play(path, part)


def test_what_was_taken_and_not_settled_comes_again_after_a_restart(path: Path) -> None:
    async def first(queue: DiskQueue, clocks: HandClocks) -> None:
        await fill(queue, "a", "b")
        ((a, _), _) = await queue.take(2)
        await queue.settle(a, Code.OK, "", b"answer")

    async def second(queue: DiskQueue, clocks: HandClocks) -> list[str]:
        return await take(queue, 5)

    play(path, first)
    assert play(path, second) == ["b"]


def test_a_request_that_waits_does_not_hold_up_those_behind_it(path: Path) -> None:
    async def part(queue: DiskQueue, clocks: HandClocks) -> None:
        await fill(queue, "a", "b")
        ((a,), _) = await queue.take(1)
        await queue.again(a, 30.0)
        assert await take(queue) == ["b"]
        _, due = await queue.take(1)
        assert due == pytest.approx(30.0)
        clocks.pass_time(29.9)
        assert await take(queue) == []
        clocks.pass_time(0.1)
        ((a,), _) = await queue.take(1)
        assert (a.request.key, a.attempts, a.age) == ("a", 1, pytest.approx(30.0))

    play(path, part)


def test_its_retry_time_survives_a_restart(path: Path) -> None:
    clocks = HandClocks()

    async def first(queue: DiskQueue, clocks: HandClocks) -> None:
        await fill(queue, "a")
        ((a,), _) = await queue.take(1)
        await queue.again(a, 30.0)

    async def second(queue: DiskQueue, clocks: HandClocks) -> None:
        _, due = await queue.take(1)
        assert due == pytest.approx(20.0)

    play(path, first, clocks=clocks)
    clocks.pass_time(10.0)
    play(path, second, clocks=clocks)


def test_no_delay_is_longer_than_the_longest(path: Path) -> None:
    async def part(queue: DiskQueue, clocks: HandClocks) -> None:
        await fill(queue, "a")
        ((a,), _) = await queue.take(1)
        await queue.again(a, 1e12)
        _, due = await queue.take(1)
        assert due == pytest.approx(300.0)

    play(path, part)


class TestKeys:
    def test_the_same_request_is_kept_once(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await asyncio.gather(*(queue.put("/infer", b"one", key="k") for _ in range(10)))
            assert queue.stand().waiting == 1
            assert queue.stand().accepted == 1
            ((record,), _) = await queue.take(9)
            await queue.settle(record, Code.OK, "", b"answer")
            assert (await queue.put("/infer", b"one", key="k")).state is QueueState.DELIVERED
            await queue.forget("", "k")
            assert (await queue.put("/infer", b"one", key="k")).state is QueueState.READ
            assert await take(queue) == []

        play(path, part)

    @pytest.mark.parametrize("other", [{"body": b"two"}, {"target": "/other"}, {"headers": (("a", "b"),)}])
    def test_another_request_under_a_key_is_refused(self, path: Path, other: dict[str, Any]) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await queue.put("/infer", b"one", key="k")
            with pytest.raises(QueueError) as caught:
                await queue.put(**{"target": "/infer", "body": b"one", **other}, key="k")
            assert caught.value.code == Code.ALREADY_EXISTS
            assert queue.stand().refused == 1

        play(path, part)

    def test_one_client_cannot_see_anothers(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await queue.put("/infer", b"one", owner="a", key="k")
            await queue.put("/infer", b"two", owner="b", key="k")
            assert queue.stand().waiting == 2
            assert await queue.outcome("c", "k") is None
            await queue.forget("b", "k")
            found = await queue.outcome("a", "k")
            assert found is not None
            assert found.state is QueueState.WAITING

        play(path, part)

    def test_a_key_must_be_one(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            with pytest.raises(Refused):
                await queue.put("/infer", b"", key="a b")

        play(path, part)


class TestOutcomes:
    @pytest.mark.parametrize(("code", "state"), [(Code.OK, QueueState.DELIVERED), (Code.INVALID_ARGUMENT, QueueState.FAILED)])
    def test_are_kept_until_they_are_read(self, path: Path, code: Code, state: QueueState) -> None:
        async def first(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "k")
            ((record,), _) = await queue.take(1)
            waiting = await queue.outcome("", "k")
            assert waiting is not None
            assert (waiting.state, waiting.body) == (QueueState.WAITING, b"")
            await queue.settle(record, code, "why", b"answer")

        async def second(queue: DiskQueue, clocks: HandClocks) -> None:
            for _ in range(2):
                found = await queue.outcome("", "k")
                assert found is not None
                assert (found.state, found.code, found.message, found.body, found.attempts) == (state, code, "why", b"answer", 1)
            await queue.forget("", "k")
            found = await queue.outcome("", "k")
            assert found is not None
            assert (found.state, found.body) == (QueueState.READ, b"")

        play(path, first)
        play(path, second)

    def test_and_keys_go_after_their_time(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "k")
            ((record,), _) = await queue.take(1)
            await queue.settle(record, Code.OK, "", b"answer")
            clocks.pass_time(99.0)
            await queue.sweep()
            assert await queue.outcome("", "k") is not None
            clocks.pass_time(1.0)
            await queue.sweep()
            assert await queue.outcome("", "k") is None
            assert queue.stand().outcomes == queue.stand().outcome_bytes == 0

        play(path, part, Limits(keep=100.0))

    def test_beyond_their_bounds_the_oldest_go(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a", "b", "c", "d")
            records, _ = await queue.take(4)
            for each in records:
                clocks.pass_time(1.0)
                await queue.settle(each, Code.OK, "", bytes(1000))
            assert await queue.outcome("", "a") is None
            assert await queue.outcome("", "b") is None
            assert await queue.outcome("", "c") is not None
            assert queue.stand().outcomes == 2
            assert queue.stand().outcome_bytes <= 3000

        play(path, part, Limits(outcome_bytes=3000))

    def test_an_answer_that_is_too_large_is_not_kept_and_that_is_said(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a")
            ((record,), _) = await queue.take(1)
            await queue.settle(record, Code.OK, "", bytes(5000))
            found = await queue.outcome("", "a")
            assert found is not None
            assert (found.state, found.cut, found.body) == (QueueState.DELIVERED, True, b"")

        play(path, part, Limits(outcome_bytes=3000))


class TestBounds:
    def test_by_number(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            results = await asyncio.gather(*(queue.put("/infer", b"x") for _ in range(10)), return_exceptions=True)
            refused = [each for each in results if isinstance(each, QueueFull)]
            assert len(refused) == 7
            assert {each.code for each in refused} == {Code.RESOURCE_EXHAUSTED}
            ((record,), _) = await queue.take(1)
            await queue.settle(record, Code.OK)
            await queue.put("/infer", b"x")

        play(path, part, Limits(records=3))

    def test_by_bytes(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await queue.put("/infer", bytes(600))
            with pytest.raises(QueueFull):
                await queue.put("/infer", bytes(600))
            await queue.put("/infer", bytes(100))
            assert queue.stand().waiting_bytes <= 1500

        play(path, part, Limits(bytes=1500))

    def test_one_request_by_bytes(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            with pytest.raises(QueueFull):
                await queue.put("/infer", bytes(1001))

        play(path, part, Limits(record_bytes=1000))

    def test_figures_are_counted_anew_at_the_start(self, path: Path) -> None:
        async def first(queue: DiskQueue, clocks: HandClocks) -> tuple[int, ...]:
            await fill(queue, "a", "b", "c")
            ((record,), _) = await queue.take(1)
            await queue.settle(record, Code.OK, "", b"answer")
            stand = queue.stand()
            return stand.waiting, stand.waiting_bytes, stand.outcomes, stand.outcome_bytes

        async def second(queue: DiskQueue, clocks: HandClocks) -> tuple[int, ...]:
            stand = queue.stand()
            return stand.waiting, stand.waiting_bytes, stand.outcomes, stand.outcome_bytes

        before = play(path, first)
        assert before[0] == 2
        assert play(path, second) == before

    def test_what_is_too_old_ends_as_expired(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a")
            clocks.pass_time(50.0)
            await fill(queue, "b")
            clocks.pass_time(50.0)
            await queue.sweep()
            found = await queue.outcome("", "a")
            assert found is not None
            assert (found.state, found.code) == (QueueState.EXPIRED, Code.DEADLINE_EXCEEDED)
            assert await take(queue, 5) == ["b"]
            assert queue.stand().expired == 1

        play(path, part, Limits(age=100.0))

    def test_what_is_being_delivered_does_not_expire_meanwhile(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a")
            ((record,), _) = await queue.take(1)
            clocks.pass_time(1000.0)
            await queue.sweep()
            await queue.settle(record, Code.OK, "", b"answer")
            found = await queue.outcome("", "a")
            assert found is not None
            assert found.state is QueueState.DELIVERED

        play(path, part, Limits(age=100.0))


YEARS = 30 * 365 * 86400.0


class TestClocks:
    @pytest.mark.parametrize("jump", [YEARS, -YEARS])
    def test_a_jump_while_it_runs_changes_nothing(self, path: Path, jump: float) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a", "b")
            ((a,), _) = await queue.take(1)
            await queue.again(a, 10.0)
            clocks.wall_time += jump
            await queue.sweep()
            assert await take(queue) == ["b"]
            clocks.pass_time(10.0)
            assert await take(queue) == ["a"]

        play(path, part)

    @pytest.mark.parametrize("jump", [YEARS, -YEARS])
    def test_a_jump_over_a_reboot_neither_loses_nor_holds_anything(self, path: Path, jump: float) -> None:
        clocks = HandClocks()

        async def first(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a", "b")
            ((a,), _) = await queue.take(1)
            await queue.again(a, 10.0)

        async def second(queue: DiskQueue, clocks: HandClocks) -> None:
            await queue.sweep()
            assert await take(queue) == (["b"] if jump < 0 else ["a"])
            clocks.pass_time(10.0)
            assert len(await take(queue, 5)) == 1
            assert queue.stand().expired == 0

        play(path, first, clocks=clocks)
        clocks.reboot(wall_passed=jump)
        play(path, second, clocks=clocks)

    def test_with_a_clock_that_stands_still_between_boots_ages_still_end(self, path: Path) -> None:
        clocks = HandClocks()

        async def first(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a")

        async def a_day(queue: DiskQueue, clocks: HandClocks) -> int:
            clocks.pass_time(60.0)
            await queue.sweep()
            clocks.wall_time -= 60.0
            return queue.stand().waiting

        play(path, first, Limits(age=100.0), clocks)
        left = []
        for _ in range(3):
            clocks.reboot(wall_passed=0.0)
            left.append(play(path, a_day, Limits(age=100.0), clocks))
        assert left == [1, 0, 0]


class TestTrouble:
    def test_a_second_process_is_refused(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            with pytest.raises(QueueError, match="belongs to another process"):
                await DiskQueue.open(path, clocks=clocks)
            await fill(queue, "a")

        play(path, part)

    def test_after_closing_it_refuses(self, path: Path) -> None:
        async def main() -> None:
            queue = await DiskQueue.open(path)
            await queue.close()
            await queue.close()
            with pytest.raises(QueueError, match="closed"):
                await queue.put("/infer", b"")

        asyncio.run(main())

    def test_who_stops_waiting_for_a_request_loses_none(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a")
            waiter = asyncio.ensure_future(queue.take(1))
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait([waiter])
            await queue.sweep()  # behind it in the thread
            assert await take(queue) == ["a"]

        play(path, part)

    def test_who_stops_waiting_for_an_end_still_ends_it(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a")
            ((record,), _) = await queue.take(1)
            waiter = asyncio.ensure_future(queue.settle(record, Code.OK, "", b"answer"))
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait([waiter])
            await queue.sweep()
            assert queue.stand().in_delivery == 0
            assert queue.stand().delivered == 1

        play(path, part)

    def test_a_bug_in_a_job_ends_that_job_and_no_other(self, path: Path) -> None:
        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            with pytest.raises(QueueError):
                await queue._writer.ask(lambda: 1 / 0)
            await fill(queue, "a")
            assert await take(queue) == ["a"]

        play(path, part)

    @pytest.mark.parametrize("number", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT], ids=["a failed sync", "a torn page"])
    def test_after_a_failure_of_the_disk_the_file_is_read_anew_and_it_goes_on(self, path: Path, number: int) -> None:
        def fail() -> None:
            error = sqlite3.OperationalError("the disk fails")
            error.sqlite_errorcode = number
            raise error

        async def part(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "a")
            failing = asyncio.gather(queue._writer.ask(fail), queue.put("/infer", b"b", key="b"), return_exceptions=True)
            failed, kept = await failing
            assert isinstance(failed, QueueError)
            assert failed.code == Code.UNAVAILABLE
            assert not isinstance(kept, BaseException)  # what shared its transaction was tried again alone
            assert queue.stand().waiting == 2
            assert await take(queue, 5) == ["a", "b"]
            assert (queue.stand().damaged > 0) == (number == sqlite3.SQLITE_CORRUPT)

        play(path, part)

    def test_a_request_that_rotted_on_the_disk_is_not_sent(self, path: Path) -> None:
        async def first(queue: DiskQueue, clocks: HandClocks) -> None:
            await queue.put("/infer", b"pay 100 to Ann", key="a")
            await queue.put("/infer", b"another one", key="b")

        async def second(queue: DiskQueue, clocks: HandClocks) -> None:
            assert await take(queue, 5) == ["b"]
            found = await queue.outcome("", "a")
            assert found is not None
            assert (found.state, found.code) == (QueueState.FAILED, Code.DATA_LOSS)

        play(path, first)
        data = path.read_bytes()
        assert data.count(b"pay 100 to Ann") == 1
        path.write_bytes(data.replace(b"pay 100 to Ann", b"pay 999 to Ann"))
        play(path, second)

    @pytest.mark.parametrize("keep_head", [0, 4096])
    def test_a_file_that_is_none_any_more_is_set_aside_and_the_queue_goes_on(self, path: Path, keep_head: int) -> None:
        async def first(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, *(f"k{each}" for each in range(300)))

        async def second(queue: DiskQueue, clocks: HandClocks) -> None:
            await fill(queue, "new")
            assert "new" in await take(queue, 1000)

        play(path, first)
        data = path.read_bytes()
        path.write_bytes(data[:keep_head] + bytes([0x5A]) * (len(data) - keep_head))
        play(path, second)
        assert path.with_name("queue.sqlite3.damaged").exists()

    def test_what_can_still_be_read_of_a_torn_file_is_taken_over(self, path: Path) -> None:
        async def first(queue: DiskQueue, clocks: HandClocks) -> None:
            for each in range(300):
                await queue.put("/infer", bytes([each % 251]) * 2000, key=f"k{each:03}")

        async def second(queue: DiskQueue, clocks: HandClocks) -> tuple[list[str], int]:
            return await take(queue, 1000), queue.stand().damaged

        play(path, first)
        with sqlite3.connect(path) as db:
            (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'waiting'").fetchone()
        db.close()
        data = bytearray(path.read_bytes())
        data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096  # the index is gone, every row is whole
        path.write_bytes(data)
        keys, damaged = play(path, second)
        assert keys == [f"k{each:03}" for each in range(300)]
        assert damaged == 1
