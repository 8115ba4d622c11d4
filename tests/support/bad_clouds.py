"""Servers that do what no cloud should: each takes connections on loopback and is bad in its own way.

And a line to a cloud that does all that it should, with answers that come late, or that breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

__all__ = ["WAYS", "BadCloud", "BadLine", "bad_cloud", "bad_line"]

_SETTINGS = bytes.fromhex("000000 04 00 00000000")
_GOAWAY = bytes.fromhex("000008 07 00 00000000 00000000 00000000")
"""No error, and no stream was begun with: the server only wants to be left."""
_PREFACE = 24
_ANSWERS = (0, 1)
"""Frames of data and of headers."""


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
    cloud = BadCloud()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cloud.connections += 1
        await WAYS[way](reader, writer)

    async with _listening(meet, tls) as cloud.address:
        yield cloud


@contextlib.asynccontextmanager
async def _listening(way: Way, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Meet whoever comes to the address that is given."""
    tasks = set[asyncio.Task[None]]()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await way(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for each in tuple(tasks):
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class BadLine:
    """What lies before a server. `late_s`: how much longer its answers take, whatever the deadline.

    `late`: frames that came so; `breaks`: how often it went down.
    """

    server: str
    late_s: float = 0.0
    address: str = ""
    late: int = 0
    breaks: int = 0
    _up: bool = True
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)

    def turn(self, up: bool) -> None:
        """Let everybody through, or end what there is by a reset and let nobody through."""
        self._up = up
        if not up:
            for each in tuple(self._ends):
                _hard(each)
            self.breaks += 1

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        if not self._up:
            _hard(writer)
            return
        host, _, port = self.server.rpartition(":")
        from_server, to_server = await asyncio.open_connection(host, int(port))
        self._ends.add(writer)
        back = asyncio.ensure_future(self._back(from_server, writer))
        try:
            while piece := await reader.read(1 << 16):
                to_server.write(piece)
        finally:
            self._ends.discard(writer)
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            to_server.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            head = await reader.readexactly(9)
            frame = head + await reader.readexactly(int.from_bytes(head[:3]))
            if self.late_s and head[3] in _ANSWERS:
                loop.call_later(self.late_s, self._write_late, writer, frame)
            else:
                writer.write(frame)

    def _write_late(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        if not writer.is_closing():
            self.late += 1
            writer.write(frame)


@contextlib.asynccontextmanager
async def bad_line(server: str, late_s: float = 0.0) -> AsyncIterator[BadLine]:
    """Lay one before a server."""
    line = BadLine(server, late_s)
    async with _listening(line.carry) as line.address:
        yield line
