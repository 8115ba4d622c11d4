"""Our server, asked by grpc.aio's client: what a client of the protocol sees is what the specification says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from httpunk import Backend, H2Connection, Request
from httpunk._backend.asyncio import AsyncioBackend
from tests.support.wire import FAIL, SAY, SLOW, TALK, Seen, our_server, run, until

from stillhouse.edge.wire.call import Limits

WORDS = "no – über 100 % \n\t✓"


@contextlib.asynccontextmanager
async def asked(seen: Seen, limits: Limits | None = None, **more: Any) -> AsyncIterator[Any]:
    async with our_server(seen, limits) as (_, address), grpc.aio.insecure_channel(address, **more) as channel:
        yield channel


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def test_a_message_and_its_metadata_come_back() -> None:
    async def work() -> None:
        seen = Seen()
        async with asked(seen) as channel:
            call = channel.unary_unary(SAY)(b"x" * 10, metadata=(("key", "value ~"), ("raw-bin", bytes(range(256)))))
            assert await call == b"x" * 10
            assert ("key", "value ~") in seen.metadata and ("raw-bin", bytes(range(256))) in seen.metadata
            assert ("first", "1") in tuple(await call.initial_metadata())
            told = tuple(await call.trailing_metadata())
            assert ("back-key", "value ~") in told and ("back-raw-bin", bytes(range(256))) in told

    run(work())


@pytest.mark.parametrize("size", [0, 1, 16_384, 3_000_000])
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_messages_of_every_size_and_compression(size: int, compression: grpc.Compression) -> None:
    async def work() -> None:
        async with asked(Seen(), options=[("grpc.max_receive_message_length", -1)]) as channel:
            message = bytes(each % 251 for each in range(size % 5000)) * (size // 5000 + 1)
            assert await channel.unary_unary(SAY)(message, compression=compression) == message

    run(work())


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_that_is_too_large_is_refused_before_it_is_held(compression: grpc.Compression) -> None:
    async def work() -> None:
        async with asked(Seen(), Limits(message=1000)) as channel:
            error = await refused(channel.unary_unary(SAY)(b"\0" * 5_000_000, compression=compression))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await channel.unary_unary(SAY)(b"\0" * 1000) == b"\0" * 1000

    run(work())


@pytest.mark.parametrize("code", range(1, 17))
def test_every_status_reaches_the_client_with_its_words(code: int) -> None:
    async def work() -> None:
        async with asked(Seen()) as channel:
            error = await refused(channel.unary_unary(FAIL)(b"", metadata=(("code", str(code)), ("words-bin", WORDS.encode()))))
            assert (error.code().value[0], error.details()) == (code, WORDS)
            assert ("more", "x") in tuple(error.trailing_metadata())

    run(work())


def test_an_unknown_method_is_unimplemented() -> None:
    async def work() -> None:
        async with asked(Seen()) as channel:
            assert (await refused(channel.unary_unary("/test.Echo/Else")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED

    run(work())


def test_a_deadline_ends_the_work_too() -> None:
    async def work() -> None:
        seen = Seen()
        async with asked(seen) as channel:
            error = await refused(channel.unary_unary(SLOW)(b"", timeout=0.3, metadata=(("seconds", "30"),)))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await until(lambda: seen.cancelled == 1)
            assert (seen.begun, seen.ended) == (1, 0)

    run(work())


@pytest.mark.parametrize("how", ["cancelled", "disconnected"])
def test_work_whose_client_has_gone_is_ended(how: str) -> None:
    async def work() -> None:
        seen = Seen()
        async with asked(seen) as channel:
            call = channel.unary_unary(SLOW)(b"", metadata=(("seconds", "30"),))
            task = asyncio.ensure_future(call.code())
            await until(lambda: seen.begun == 1)
            if how == "cancelled":
                call.cancel()
            else:
                await channel.close(None)
            await until(lambda: seen.cancelled == 1)
            task.cancel()

    run(work())


def test_a_stream_goes_both_ways_and_ends_with_its_status() -> None:
    async def work() -> None:
        async with asked(Seen()) as channel:
            call = channel.stream_stream(TALK)()
            for word in (b"one", b"two", b"x" * 100_000):
                await call.write(word)
                assert await call.read() == word.upper()  # before the client has ended its half
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

            call = channel.stream_stream(TALK)()
            await call.write(b"fail")
            assert (await refused(call.read())).details() == "as you wish"

    run(work())


def test_a_streams_deadline_ends_it_with_its_status() -> None:
    async def work() -> None:
        async with asked(Seen()) as channel:
            call = channel.stream_stream(TALK)(timeout=0.4)
            await call.write(b"one")
            assert await call.read() == b"ONE"
            assert (await refused(call.read())).code() is grpc.StatusCode.DEADLINE_EXCEEDED

    run(work())


@pytest.mark.parametrize("body_s", [0.2])
def test_a_body_that_does_not_come_ends_its_call(body_s: float) -> None:
    """Headers, and then nothing: the client holds a stream, which is all that it gets."""

    async def work() -> None:
        async with our_server(Seen(), Limits(body_s=body_s)) as (_, address):
            host, port = address.split(":")
            transport = await AsyncioBackend().connect_tcp(host, int(port))
            async with H2Connection(transport, authority=address, backend=Backend.asyncio) as connection:

                async def never() -> AsyncIterator[bytes]:
                    await asyncio.sleep(30)
                    yield b""

                headers = [("content-type", "application/grpc"), ("te", "trailers")]
                response = await connection.send_request(Request("POST", SAY, headers=headers, body=never()))
                assert response.headers.get("grpc-status") == b"4"
                await response.aclose()

    run(work())


def test_a_thousand_calls_at_once_over_one_connection() -> None:
    async def work() -> None:
        async with asked(Seen()) as channel:
            say = channel.unary_unary(SAY)
            found = await asyncio.gather(*(say(str(number).encode()) for number in range(1000)))
            assert found == [str(number).encode() for number in range(1000)]

    run(work())


def test_draining_lets_calls_under_way_end_and_takes_no_others() -> None:
    async def work() -> None:
        seen = Seen()
        async with our_server(seen) as (server, address), grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(SLOW)(b"end", metadata=(("seconds", "0.5"),))
            task = asyncio.ensure_future(_result(call))
            await until(lambda: seen.begun == 1)
            await server.drain(10.0)
            assert await task == b"end"
            error = await refused(channel.unary_unary(SAY)(b"", timeout=2))
            assert error.code() is grpc.StatusCode.UNAVAILABLE

    run(work())


def test_a_connection_that_is_too_old_is_left_without_a_failed_call() -> None:
    async def work() -> None:
        async with our_server(Seen(), Limits(age_s=0.1)) as (_, address), grpc.aio.insecure_channel(address) as channel:
            say = channel.unary_unary(SAY)
            loop = asyncio.get_running_loop()
            ends, count = loop.time() + 1.0, 0
            while loop.time() < ends:
                assert await say(b"x") == b"x"
                count += 1
            assert count > 50

    run(work())


async def _result(call: Any) -> bytes:
    return bytes(await call)
