"""Our client, against grpc.aio's server and against ours: what is told, what is tried again, what is left behind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.kube.process import free_port
from tests.support.pki import certificates
from tests.support.wire import FAIL, SAY, SLOW, TALK, Seen, our_server, run, their_server, until

from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.call import Limits
from stillhouse.edge.wire.client import Channel

WORDS = "no – über 100 % \n\t✓"
SERVERS = {"ours": lambda seen: _Address(our_server(seen)), "theirs": their_server}


class _Address:
    """Our server as a context manager of its address."""

    def __init__(self, server: Any) -> None:
        self._server = server

    async def __aenter__(self) -> str:
        return str((await self._server.__aenter__())[1])

    async def __aexit__(self, *error: Any) -> None:
        await self._server.__aexit__(*error)


both = pytest.mark.parametrize("kind", sorted(SERVERS))


@both
def test_a_message_and_its_metadata_come_back(kind: str) -> None:
    async def work() -> None:
        seen = Seen()
        async with SERVERS[kind](seen) as address:
            channel = Channel(address)
            given = (("key", "value ~"), ("raw-bin", bytes(range(256))), ("grpc-forged", "1"), ("te", "x"), ("new\nline", "x"))
            reply = await channel.unary(SAY, b"hello", metadata=given, timeout_s=5)
            assert reply.message == b"hello"
            assert ("first", "1") in reply.initial
            assert set(reply.trailing) >= {("back-key", "value ~"), ("back-raw-bin", bytes(range(256)))}
            assert not {name for name, _ in seen.metadata} & {"grpc-forged", "new\nline"}
            assert channel.in_flight == 0
            await channel.close()

    run(work())


@both
@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_messages_of_every_size(kind: str, size: int) -> None:
    async def work() -> None:
        async with SERVERS[kind](Seen()) as address:
            channel = Channel(address)
            message = bytes(each % 251 for each in range(size % 5000)) * (size // 5000 + 1)
            assert (await channel.unary(SAY, message)).message == message
            await channel.close()

    run(work())


@both
@pytest.mark.parametrize("code", range(1, 17))
def test_every_status_and_its_words(kind: str, code: int) -> None:
    async def work() -> None:
        async with SERVERS[kind](Seen()) as address:
            channel = Channel(address)
            with pytest.raises(RpcError) as caught:
                await channel.unary(FAIL, b"", metadata=(("code", str(code)), ("words-bin", WORDS.encode())))
            assert (caught.value.code, caught.value.message) == (Code(code), WORDS)
            assert ("more", "x") in caught.value.trailing
            assert not caught.value.unprocessed
            await channel.close()

    run(work())


@both
@pytest.mark.parametrize("how", ["deadline", "cancelled"])
def test_a_call_that_nobody_waits_for_is_ended_at_the_server(kind: str, how: str) -> None:
    async def work() -> None:
        seen = Seen()
        async with SERVERS[kind](seen) as address:
            channel = Channel(address)
            metadata = (("seconds", "30"),)
            timeout_s = 0.5 if how == "deadline" else None
            call = asyncio.ensure_future(channel.unary(SLOW, b"", metadata=metadata, timeout_s=timeout_s))
            await until(lambda: seen.begun == 1)
            if how == "cancelled":
                call.cancel()
            with pytest.raises(asyncio.CancelledError if how == "cancelled" else RpcError):
                await call
            await until(lambda: seen.cancelled == 1)
            assert (await channel.unary(SAY, b"on")).message == b"on", "the connection is as good as before"
            assert channel.in_flight == 0
            await channel.close()

    run(work())


@both
def test_a_stream_goes_both_ways(kind: str) -> None:
    async def work() -> None:
        async with SERVERS[kind](Seen()) as address:
            channel = Channel(address)
            gate: asyncio.Queue[bytes | None] = asyncio.Queue()

            async def words() -> AsyncIterator[bytes]:
                while (word := await gate.get()) is not None:
                    yield word

            gate.put_nowait(b"one")
            answers = channel.stream(TALK, words(), timeout_s=20)
            assert await anext(answers) == b"ONE"
            gate.put_nowait(b"y" * 100_000)
            assert await anext(answers) == b"Y" * 100_000
            gate.put_nowait(b"fail")
            with pytest.raises(RpcError) as caught:
                await anext(answers)
            assert (caught.value.code, caught.value.message) == (Code.ABORTED, "as you wish")
            await channel.close()

    run(work())


def test_who_cannot_be_reached_is_unavailable_and_is_not_asked_again_at_once() -> None:
    async def work() -> None:
        channel = Channel(f"127.0.0.1:{free_port()}")
        for _ in range(2):
            with pytest.raises(RpcError) as caught:
                await channel.unary(SAY, b"")
            assert caught.value.code is Code.UNAVAILABLE and caught.value.unprocessed
        assert "tried again in" in caught.value.message
        await channel.close()

    run(work())


def test_a_server_that_comes_back_is_found_again() -> None:
    async def work() -> None:
        port, seen = free_port(), Seen()
        channel = Channel(f"127.0.0.1:{port}")
        for _ in range(3):
            async with their_server(seen, port):
                await until_answered(channel)
            with pytest.raises(RpcError) as caught:
                await channel.unary(SAY, b"", timeout_s=5)
            assert caught.value.code is Code.UNAVAILABLE
        await channel.close()

    run(work())


async def until_answered(channel: Channel, seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.02)):
        try:
            assert (await channel.unary(SAY, b"x", timeout_s=5)).message == b"x"
            return
        except RpcError:
            await asyncio.sleep(0.02)
    pytest.fail("it was not found again")


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_a_server_that_ends_connections_by_age_fails_no_call(kind: str) -> None:
    """GOAWAY in the middle of load: what the server has not begun goes over the next connection."""

    async def work() -> None:
        if kind == "ours":
            server: Any = _Address(our_server(Seen(), Limits(age_s=0.2)))
        else:
            options = [("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 2000)]
            server = their_server(Seen(), options=options)
        async with server as address:
            channel = Channel(address)
            loop = asyncio.get_running_loop()
            ends, count = loop.time() + 1.5, 0

            async def ask() -> None:
                nonlocal count
                while loop.time() < ends:
                    assert (await channel.unary(SAY, b"x", timeout_s=10)).message == b"x"
                    count += 1

            await asyncio.gather(*(ask() for _ in range(8)))
            assert count > 100
            await channel.close()

    run(work())


@both
def test_who_leaves_ends_what_is_under_way_first(kind: str) -> None:
    async def work() -> None:
        seen = Seen()
        async with SERVERS[kind](seen) as address:
            channel = Channel(address)
            call = asyncio.ensure_future(channel.unary(SLOW, b"end", metadata=(("seconds", "0.3"),), timeout_s=5))
            await until(lambda: seen.begun == 1)
            channel.leave()
            assert (await call).message == b"end"
            assert (await channel.unary(SAY, b"again", timeout_s=5)).message == b"again"
            await channel.close()

    run(work())


def test_mutual_tls_names_the_client_and_refuses_who_shows_nothing(tmp_path: Path) -> None:
    certificates(tmp_path)

    async def work() -> None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "authority.crt")
        tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.set_alpn_protocols(["h2"])
        seen = Seen()
        async with our_server(seen, tls=tls) as (server, address):
            peers = []
            known = server._unary[SAY]

            async def noting(call: Any, message: bytes) -> Any:
                peers.append(call.peer.names)
                return await known(call, message)

            server._unary[SAY] = noting
            client = ssl.create_default_context(cafile=tmp_path / "authority.crt")
            client.set_alpn_protocols(["h2"])
            stranger = Channel(address, tls=client)
            with pytest.raises(RpcError) as caught:
                await stranger.unary(SAY, b"", timeout_s=5)
            assert caught.value.code is Code.UNAVAILABLE
            client.load_cert_chain(tmp_path / "edge-1.crt", tmp_path / "edge-1.key")
            channel = Channel(address, tls=client)
            assert (await channel.unary(SAY, b"x", timeout_s=5)).message == b"x"
            assert peers == [("edge-1", "edge-1.example")]
            await channel.close()
            await stranger.close()

    run(work())


def test_a_certificate_that_is_not_trusted_is_told(tmp_path: Path) -> None:
    certificates(tmp_path)

    async def work() -> None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
        async with our_server(Seen(), tls=tls) as (_, address):
            channel = Channel(address, tls=ssl.create_default_context())
            with pytest.raises(RpcError, match=r"(?i)certificate verify failed") as caught:
                await channel.unary(SAY, b"", timeout_s=5)
            assert caught.value.code is Code.UNAVAILABLE
            await channel.close()

    run(work())
