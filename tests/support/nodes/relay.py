"""Lets what runs outside a network namespace reach one address inside it: `python -I -S relay.py PORT NAMESPACE HOST PORT`.

The listening socket is made before the namespace is entered, and stays where it was made. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys

_CLONE_NEWNET = 0x40000000  # linux/sched.h


def main() -> None:
    """Listen at 127.0.0.1 out here, enter the namespace, pass bytes on until the process is ended."""
    port, namespace, host, target = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", int(port)))
    descriptor = os.open(namespace, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        sys.exit(f"setns({namespace}): {os.strerror(ctypes.get_errno())}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(listening, host, int(target)))


async def _serve(listening: socket.socket, host: str, port: int) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass(reader, there_writer), _pass(there_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(meet, sock=listening) as server:
        await server.serve_forever()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    main()
