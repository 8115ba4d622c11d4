"""The work queue: once in it, once at work, and a back-off of its own for each key."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.reconcile import queue as module
from stillhouse.reconcile.queue import LONGEST_DELAY_S, KeyedQueue


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


def test_a_key_is_queued_once_and_in_order() -> None:
    async def story() -> list[str]:
        queue: KeyedQueue[str] = KeyedQueue()
        for key in "abacab":
            queue.add(key)
        assert queue.depth == 3
        return [await queue.get() for _ in range(3)]

    assert run(story()) == ["a", "b", "c"]


def test_what_comes_during_the_work_is_done_once_more_afterwards() -> None:
    async def story() -> None:
        queue: KeyedQueue[str] = KeyedQueue()
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        assert queue.depth == 0, "no two workers have the same key"
        queue.done("a")
        assert queue.depth == 1
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.idle

    run(story())


def test_who_waits_is_woken() -> None:
    async def story() -> str:
        queue: KeyedQueue[str] = KeyedQueue()
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        return await waiting

    assert run(story()) == "a"


def test_delays_double_to_a_minute_and_a_success_forgets() -> None:
    async def story() -> list[float]:
        queue: KeyedQueue[str] = KeyedQueue(chance=lambda: 1.0)
        delays = []
        for _ in range(10):
            queue.add("a")
            await queue.get()
            delays.append(queue.done("a", failed=True))
        queue.add("a")
        await queue.get()
        assert queue.done("a") == 0.0
        queue.add("a")
        await queue.get()
        delays.append(queue.done("a", failed=True))
        queue.close()
        return delays

    assert run(story()) == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 0.5]


def test_the_servers_wish_is_kept_but_not_for_ever() -> None:
    async def story() -> tuple[float, float]:
        queue: KeyedQueue[str] = KeyedQueue()
        queue.add("a")
        await queue.get()
        first = queue.done("a", failed=True, retry_after_s=7.0)
        queue.add("a")
        await queue.get()
        second = queue.done("a", failed=True, retry_after_s=9999.0)
        queue.close()
        return first, second

    assert run(story()) == (7.0, LONGEST_DELAY_S)


def test_a_failed_key_comes_back_by_itself_and_sooner_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.01)

    async def story() -> None:
        queue: KeyedQueue[str] = KeyedQueue()
        queue.add("a")
        await queue.get()
        queue.done("a", failed=True)
        assert await queue.get() == "a"
        queue.done("a", failed=True, retry_after_s=30.0)
        queue.add("a")  # something has changed: no reason to wait
        assert queue.depth == 1

    run(story())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "get", "good", "bad"])), max_size=60))
def test_no_key_is_lost_and_none_is_worked_on_twice_at_once(steps: list[tuple[str, str]]) -> None:
    async def story() -> None:
        queue: KeyedQueue[str] = KeyedQueue()
        busy: set[str] = set()
        wanted: set[str] = set()
        for key, what in steps:
            if what == "add":
                queue.add(key)
                wanted.add(key)
            elif what == "get" and queue.depth:
                got = await queue.get()
                assert got not in busy
                busy.add(got)
                wanted.discard(got)
            elif what in ("good", "bad") and key in busy:
                busy.discard(key)
                queue.done(key, failed=what == "bad")
                if what == "bad":
                    wanted.discard(key)  # it comes back later, by its timer
        for key in sorted(busy):
            queue.done(key)
        found = set()
        while queue.depth:
            found.add(await queue.get())
        assert wanted <= found
        queue.close()

    run(story())
