"""Servers that do what no cloud should: each takes connections on loopback and is bad in its own way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

__all__ = ["WAYS", "BadCloud", "bad_cloud"]

_SETTINGS = bytes.fromhex("000000 04 00 00000000")
_GOAWAY = bytes.fromhex("000008 07 00 00000000 00000000 00000000")
"""No error, and no stream was begun with: the server only wants to be left."""
_PREFACE = 24


@dataclass
class BadCloud:
    """`connections`: how many there were."""

    address: str = ""
    connections: int = 0


Way = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _black_hole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and say nothing."""
    while await reader.read(1 << 16):
        pass


async def _deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Agree on the protocol, and never answer."""
    writer.write(_SETTINGS)
    await _black_hole(reader, writer)


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Agree, take the call, and reset the connection."""
    writer.write(_SETTINGS)
    await reader.readexactly(_PREFACE + 100)  # more than settings: a call has begun
    _hard(writer)


async def _reset_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    _hard(writer)


async def _goes_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask to be left, whenever somebody comes."""
    writer.write(_SETTINGS + _GOAWAY)
    await _black_hole(reader, writer)


async def _other_protocol(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    await _black_hole(reader, writer)


async def _noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(bytes(range(256)) * 16)
    await _black_hole(reader, writer)


WAYS: dict[str, Way] = {
    "black hole": _black_hole, "deaf": _deaf, "reset": _reset, "reset at once": _reset_at_once, "goes away": _goes_away,
    "other protocol": _other_protocol, "noise": _noise,
}  # fmt: skip


def _hard(writer: asyncio.StreamWriter) -> None:
    line = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def bad_cloud(way: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[BadCloud]:
    """Run one."""
    cloud, tasks = BadCloud(), set[asyncio.Task[None]]()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cloud.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await WAYS[way](reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=tls)
    cloud.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cloud
    finally:
        server.close()
        for each in tuple(tasks):
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
