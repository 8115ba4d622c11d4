"""Queue and event of our own do what httpunk asks of asyncio's; no answer carries a date."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from httpunk._backend.asyncio import AsyncioBackend
from httpunk.h2.stream import Stream as H2Stream
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.wire import SAY, Seen, our_server, run

from stillhouse.edge.wire.asking import asked
from stillhouse.edge.wire.client import _BARE
from stillhouse.edge.wire.framing import framed
from stillhouse.edge.wire.lighter import Event, LighterBackend, Queue
from stillhouse.edge.wire.links import Links


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["send", "receive", "cancel", "turn"]), max_size=30))
def test_a_queue_gives_what_asyncios_gives(steps: list[str]) -> None:
    async def played(backend: Any) -> list[object]:
        sender, receiver = backend.queue()
        seen: list[object] = []
        reading: asyncio.Task[Any] | None = None
        count = 0
        for step in steps:
            if step == "send":
                sender.send(count)
                count += 1
            elif step == "receive" and (reading is None or reading.done()):
                reading = asyncio.ensure_future(receiver.receive())
                reading.add_done_callback(lambda task: None if task.cancelled() else seen.append(task.result()))
            elif step == "cancel" and reading is not None:
                reading.cancel()
                await asyncio.sleep(0)
            for _ in range(4):
                await asyncio.sleep(0)
        if reading is not None:
            reading.cancel()
            await asyncio.sleep(0)
        return seen

    assert run(played(LighterBackend())) == run(played(AsyncioBackend()))


@pytest.mark.parametrize("kind", [Event, asyncio.Event])
def test_an_event_wakes_whoever_waits_and_forgets_who_gave_up(kind: Any) -> None:
    async def work() -> None:
        event = kind()
        waits = [asyncio.ensure_future(event.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waits[1].cancel()
        await asyncio.sleep(0)
        event.set()
        event.clear()  # those that were told go on all the same
        assert await waits[0] is True and await waits[2] is True
        assert not event.is_set()
        late = asyncio.ensure_future(event.wait())
        await asyncio.sleep(0.01)
        assert not late.done()
        event.set()
        assert await late is True and await event.wait() is True
        assert waits[1].cancelled()

    run(work())


def test_two_readers_of_one_queue_are_a_mistake_of_ours() -> None:
    async def work() -> None:
        queue = Queue()
        first = asyncio.ensure_future(queue.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await queue.receive()
        queue.send(1)
        assert await first == 1

    run(work())


def test_httpunk_takes_both_from_us_and_answers_bear_no_date() -> None:
    stream = H2Stream(LighterBackend())
    assert isinstance(stream.body_recv, Queue) and isinstance(stream.headers_evt, Event)

    async def work() -> None:
        async with our_server(Seen()) as (_, address):
            links = Links(address, tls=None, authority="", server_name="", connect_s=5.0)
            with await links.link() as link:
                response = await asked(link.connection, SAY, _BARE, framed(b"hello"))
                await response.read()
                assert response.trailers.get("grpc-status") == b"0"
                assert response.headers.get("date") is None
            await links.close()

    run(work())
