"""Whatever a connection brings, the others are served: no HTTP, lengths that lie, clients that never read or never speak."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpunk import HeaderMap
from tests.support.frames import DATA, HEADERS, PREFACE, SETTINGS, call, connect, frame, headers
from tests.support.wire import SAY, Seen, our_server, run

from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.asking import asked
from stillhouse.edge.wire.call import Call, Limits
from stillhouse.edge.wire.client import Channel
from stillhouse.edge.wire.links import Links
from stillhouse.edge.wire.server import Server

BIG = "/test.Echo/Big"
HELLO = PREFACE + frame(SETTINGS, 0, 0)

GARBAGE: dict[str, bytes] = {
    "no preface": b"\x16\x03\x01" + bytes(range(256)),
    "half a preface": PREFACE[:10],
    "no settings": PREFACE + frame(DATA, 0, 1, b"x"),
    "a frame of 16 MB": HELLO + b"\xff\xff\xff" + bytes([DATA, 0]) + struct.pack(">I", 1),
    "an even stream": HELLO + frame(HEADERS, 5, 2, headers(SAY)),
    "stream 0": HELLO + frame(HEADERS, 5, 0, headers(SAY)),
    "no header block": HELLO + frame(HEADERS, 5, 1, b"\xff" * 100),
    "half a header": HELLO + frame(HEADERS, 5, 1, headers(SAY)[:-3]),
    "huge headers": HELLO + frame(HEADERS, 4, 1, b"\0\x01x" + b"\x7f\x80\x80\x80\x80\x10"),
    "endless continuations": HELLO + frame(HEADERS, 0, 1, headers(SAY)) + frame(9, 0, 1, b"\0\x01x\x01y") * 20_000,
    "data before headers": HELLO + frame(DATA, 1, 1, b"\0\0\0\0\0"),
    "settings that cannot be": HELLO + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**32 - 1)),
    "half of settings": HELLO + frame(SETTINGS, 0, 0, b"xyz"),
    "a window that overflows": HELLO + frame(8, 0, 0, struct.pack(">I", 2**31 - 1)) * 2,
    "pushed": HELLO + frame(5, 4, 1, b"\0\0\0\2" + headers(SAY)),
    "resets in a row": HELLO + b"".join(
        frame(HEADERS, 4, 2 * each + 1, headers(SAY)) + frame(3, 0, 2 * each + 1, b"\0\0\0\x08") for each in range(3000)
    ),
    "no body": HELLO + frame(HEADERS, 5, 1, headers(SAY)),
    "pings": HELLO + frame(6, 0, 0, b"12345678") * 20_000,
    "empty data": HELLO + frame(HEADERS, 4, 1, headers(SAY)) + frame(DATA, 0, 1) * 20_000,
}  # fmt: skip


@contextlib.asynccontextmanager
async def served(limits: Limits | None = None) -> AsyncIterator[tuple[Server, str, Channel]]:
    async with our_server(Seen(), limits) as (server, address):
        channel = Channel(address)
        try:
            yield server, address, channel
        finally:
            await channel.close()


def spoil(address: str, what: bytes) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.settimeout(0.5)
        with contextlib.suppress(OSError):
            line.sendall(what)
        with contextlib.suppress(OSError):
            while line.recv(65_536):
                pass


def test_what_is_no_http_disturbs_nobody() -> None:
    async def work() -> None:
        async with served() as (server, address, channel):
            for name, what in GARBAGE.items():
                await asyncio.to_thread(spoil, address, what)
                assert (await channel.unary(SAY, b"still here", timeout_s=10)).message == b"still here", name
            for _ in range(500):
                if server.connections == 1:
                    break
                await asyncio.sleep(0.01)
            assert server.connections == 1, "those that brought it are gone"

    run(work())


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(b"\0" * size) + packer.flush()


def framed(message: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(message) if length is None else length) + message


LYING: dict[str, tuple[bytes, dict[str, str], Code]] = {
    "a length of 4 GB": (framed(b"x", length=2**32 - 1), {}, Code.RESOURCE_EXHAUSTED),
    "a length that is negative": (framed(b"x", length=2**31), {}, Code.RESOURCE_EXHAUSTED),
    "too long": (framed(b"x", length=9), {}, Code.INTERNAL),
    "too short": (framed(b"xyz", length=2), {}, Code.INTERNAL),
    "half a head": (b"\0\0", {}, Code.INTERNAL),
    "two messages": (framed(b"x") * 2, {}, Code.UNIMPLEMENTED),
    "compressed and no word how": (framed(b"x", flag=1), {}, Code.INTERNAL),
    "no gzip": (framed(b"not gzip at all", flag=1), {"grpc-encoding": "gzip"}, Code.INTERNAL),
    "half of a gzip": (framed(bomb(1000)[:-9], flag=1), {"grpc-encoding": "gzip"}, Code.INTERNAL),
    "a bomb": (framed(bomb(200 << 20), flag=1), {"grpc-encoding": "gzip"}, Code.RESOURCE_EXHAUSTED),
    "an unknown encoding": (framed(b"x", flag=1), {"grpc-encoding": "br"}, Code.UNIMPLEMENTED),
    "an unknown flag": (framed(b"x", flag=77), {}, Code.INTERNAL),
    "a deadline that is none": (framed(b"x"), {"grpc-timeout": "-1S"}, Code.INTERNAL),
    "a deadline of ages": (framed(b"x"), {"grpc-timeout": "999999999999H"}, Code.INTERNAL),
}


@pytest.mark.parametrize("name", LYING)
def test_lengths_that_lie_are_told_and_cost_nothing(name: str) -> None:
    body, more, code = LYING[name]

    async def work() -> None:
        async with served(Limits(message=1 << 20)) as (_, address, channel):
            links = Links(address, tls=None, authority="", server_name="", connect_s=5.0)
            with await links.link() as link:
                told = [("te", "trailers"), ("content-type", "application/grpc"), *more.items()]
                async with await asked(link.connection, SAY, HeaderMap(told), body) as response:
                    await response.read()
                    assert (response.trailers or response.headers).get("grpc-status") == str(int(code)).encode()
            await links.close()
            assert (await channel.unary(SAY, b"still here", timeout_s=10)).message == b"still here"

    run(work())


@contextlib.asynccontextmanager
async def large(size: int, limits: Limits) -> AsyncIterator[tuple[Server, str, Channel, list[int]]]:
    begun: list[int] = []

    async def big(call: Call, message: bytes) -> Reply:
        begun.append(len(message))
        return Reply(b"x" * size)

    async def say(call: Call, message: bytes) -> Reply:
        return Reply(message)

    server = Server({BIG: big, SAY: say}, limits=limits)
    address = f"127.0.0.1:{await server.listen('127.0.0.1', 0)}"
    channel = Channel(address)
    try:
        yield server, address, channel, begun
    finally:
        await channel.close()
        await server.drain(1.0)


@pytest.mark.parametrize("window", [0, 2**31 - 1], ids=["no window", "no reading"])
def test_a_client_that_never_reads_is_not_answered_without_end(window: int) -> None:
    async def work() -> None:
        async with large(1_000_000, Limits(unread=10_000_000)) as (server, address, channel, begun):
            with connect(address, window=window) as line:
                line.setblocking(False)
                asked = 0
                for each in range(200):
                    await asyncio.get_running_loop().sock_sendall(line, call(2 * each + 1, BIG, framed(b"")))
                    asked += 1
                    await asyncio.sleep(0.002)
                (waits,) = (each.unread for each in server._loads)
                assert waits <= 12_000_000 and len(begun) < asked
                assert (await channel.unary(SAY, b"still here", timeout_s=10)).message == b"still here"
            for _ in range(500):
                if not server._loads:
                    break
                await asyncio.sleep(0.01)
            assert not server._loads and server._unread == 0, "what nobody reads goes with its connection"

    run(work())


def test_of_many_that_never_read_the_one_with_the_most_goes_first() -> None:
    async def work() -> None:
        async with large(100_000, Limits(unread=10_000_000, unread_all=3_000_000)) as (server, address, channel, _):
            lines: list[Any] = []
            for count in (5, 20, 10):
                line = connect(address, window=0)
                lines.append(line)
                line.setblocking(False)
                for each in range(count):
                    await asyncio.get_running_loop().sock_sendall(line, call(2 * each + 1, BIG, framed(b"")))
                await asyncio.sleep(0.05)
            assert server._unread <= 3_000_000
            assert (await channel.unary(BIG, b"", timeout_s=10)).message == b"x" * 100_000
            assert ended(lines[1]) and not ended(lines[0]) and not ended(lines[2])
            for line in lines:
                line.close()

    run(work())


def ended(line: socket.socket) -> bool:
    try:
        while piece := line.recv(65_536):
            assert piece
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


def test_a_connection_that_asks_nothing_is_ended_and_one_that_has_asked_is_kept() -> None:
    async def work() -> None:
        async with served(Limits(first_s=0.2)) as (server, address, channel):
            await channel.unary(SAY, b"first", timeout_s=10)
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port))), connect(address):
                for _ in range(500):
                    if server.connections == 3:
                        break
                    await asyncio.sleep(0.001)
                for _ in range(500):
                    if server.connections == 1:
                        break
                    await asyncio.sleep(0.01)
                assert server.connections == 1
            assert (await channel.unary(SAY, b"still here", timeout_s=10)).message == b"still here"

    run(work())


def test_many_connections_that_say_nothing() -> None:
    """Five hundred here; `python -m bench.idle` measures ten thousand."""

    async def work() -> None:
        async with served(Limits(connections=400)) as (server, address, channel):
            await channel.unary(SAY, b"first", timeout_s=10)
            host, _, port = address.rpartition(":")
            lines = [socket.create_connection((host, int(port))) for _ in range(500)]
            for _ in range(500):
                if server.connections <= 401:
                    break
                await asyncio.sleep(0.01)
            assert server.connections <= 401, "those beyond are turned away"
            assert (await channel.unary(SAY, b"still here", timeout_s=10)).message == b"still here"
            for line in lines:
                line.close()
            for _ in range(500):
                if server.connections == 1:
                    break
                await asyncio.sleep(0.01)
            assert server.connections == 1
            with pytest.raises(RpcError):
                await channel.unary("/test.Echo/Nothing", b"", timeout_s=10)

    run(work())
