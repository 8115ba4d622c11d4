"""Messages that never come whole, streams that say nothing: what they hold is bounded over all; who holds the most gives way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpunk import HeaderMap
from tests.support.wire import SAY, TALK, Seen, our_server, run, until

from stillhouse.edge.rest.front import Rest
from stillhouse.edge.status import Code
from stillhouse.edge.wire.asking import asked
from stillhouse.edge.wire.call import Limits
from stillhouse.edge.wire.client import Channel
from stillhouse.edge.wire.links import Link, Links
from stillhouse.edge.wire.server import Server

HEADERS = [("te", "trailers"), ("content-type", "application/grpc")]
BIG = b"\0" + (10_000_000).to_bytes(4)


async def half(size: int) -> AsyncIterator[bytes]:
    """Yield the beginning of a message, and then nothing."""
    yield BIG
    for _ in range(size // 10_000):
        yield b"x" * 10_000
    await asyncio.sleep(3600)


@contextlib.asynccontextmanager
async def links(address: str, count: int) -> AsyncIterator[list[Link]]:
    made = [await Links(address, tls=None, authority="", server_name="", connect_s=5.0).link() for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            transport: Any = each._protocol._transport
            if transport is not None:
                transport.abort()  # their bodies never end


def begin(link: Link, method: str, body: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(asked(link.connection, method, HeaderMap(HEADERS), body))


async def refused(call: asyncio.Task[Any]) -> tuple[bytes, bytes]:
    async with await call as response:
        await response.read()
        told = response.trailers or response.headers
        return told.get("grpc-status"), told.get("grpc-message")


@pytest.mark.parametrize("method", [SAY, TALK], ids=["unary", "stream"])
def test_messages_that_do_not_come_whole_are_bounded_over_all_connections(method: str) -> None:
    async def work() -> None:
        limits = Limits(arriving=3_000_000)
        async with our_server(Seen(), limits) as (server, address), links(address, 3) as (most, some, last):
            channel = Channel(address)
            calls = [begin(most, method, half(400_000)) for _ in range(5)] + [begin(some, method, half(400_000))]
            await until(lambda: server.arriving.total > 2_400_000)
            late = begin(last, method, half(900_000))
            await until(lambda: not most.usable)
            await until(lambda: 1_300_000 < server.arriving.total < 1_310_000)
            assert some.usable and last.usable, "the one that held the most was ended, and nobody else"
            assert (await channel.unary(SAY, b"x" * 100_000, timeout_s=10)).message == b"x" * 100_000

            greedy = [begin(last, method, half(900_000)) for _ in range(3)]
            done, _ = await asyncio.wait(
                [asyncio.ensure_future(refused(each)) for each in greedy], return_when=asyncio.FIRST_COMPLETED
            )
            status, words = done.pop().result()
            assert status == str(int(Code.RESOURCE_EXHAUSTED)).encode() and b"too much under way" in words
            assert server.arriving.total <= 3_000_000 and last.usable
            for each in (*calls, late, *greedy):
                each.cancel()
            await asyncio.gather(*calls, late, *greedy, return_exceptions=True)
            await channel.close()
        await until(lambda: server.arriving.total == server.calls.total == 0)

    run(work())


def test_streams_that_say_nothing_are_bounded_over_all_connections() -> None:
    async def work() -> None:
        async with our_server(Seen(), Limits(calls=50)) as (server, address), links(address, 2) as (idle, other):
            calls = [begin(idle, TALK, half(0)) for _ in range(40)] + [begin(other, TALK, half(0)) for _ in range(10)]
            await until(lambda: server.calls.total == 50)
            channel = Channel(address)
            assert (await channel.unary(SAY, b"still here", timeout_s=10)).message == b"still here"
            await until(lambda: not idle.usable and server.calls.total == 10)
            assert other.usable
            for each in calls:
                each.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await channel.close()
        await until(lambda: server.calls.total == 0)

    run(work())


def test_bodies_over_rest_count_too() -> None:
    async def work() -> None:
        limits = Limits(arriving=1_000_000)
        server = Server({}, http=Rest({}, limits).answer, limits=limits)
        port = await server.listen("127.0.0.1", 0)
        head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n"
        lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for (_, writer), size in zip(lines, (700_000, 200_000), strict=True):
            writer.write(head + b" " * size)
        await until(lambda: server.arriving.total == 900_000)
        lines[0][1].write(b" " * 400_000)  # the one with the most asks for more: it is refused itself, and gives back what it had
        with contextlib.suppress(ConnectionResetError):  # it still sends
            assert (await lines[0][0].readline()).startswith(b"HTTP/1.1 429 ")
        await until(lambda: server.arriving.total == 200_000)
        lines[1][1].write(b" " * 100_000)
        await until(lambda: server.arriving.total == 300_000)
        for _, writer in lines:
            writer.close()
        await until(lambda: server.arriving.total == 0)
        await server.drain(1.0)

    run(work())
