"""Programs in a container of a pod, by the exec subresource: WebSocket messages whose first byte is a channel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp

from stillhouse.clients.kube.api import KubeApi
from stillhouse.clients.kube.interface import Unavailable
from stillhouse.clients.kube.kinds import POD
from stillhouse.clients.sources.push.shell import Ended

__all__ = ["run_in"]

_STDIN, _STDOUT, _STDERR, _STATUS = range(4)
_GONE = aiohttp.ClientError | ConnectionError | TimeoutError
_LIMIT = 16 << 20
"""Bytes that a program may say."""


async def run_in(
    kube: KubeApi, namespace: str, pod: str, container: str, words: Sequence[str], stdin: Iterable[bytes] = ()
) -> Ended:
    """Run a program until it ends; see `Shell`.

    Raises:
        KubeError: the server refuses, or the connection broke off.
    """
    reads = stdin != ()
    query = [("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", word) for word in words)]
    query += [("stdin", "true")] if reads else []
    path = POD.path(namespace, pod, "exec")
    try:
        async with kube.websocket(path, query) as socket:
            receiving = asyncio.create_task(_receive(socket, path))
            sending = asyncio.create_task(_send(socket, stdin)) if reads else None
            try:
                if sending is not None:
                    await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
                    if sending.done() and not isinstance(sending.exception(), _GONE | None):
                        sending.result()  # raises what was found wrong with the file
                return await receiving
            finally:
                for task in (receiving, sending):
                    if task is not None:
                        task.cancel()
                await asyncio.gather(*(task for task in (receiving, sending) if task is not None), return_exceptions=True)
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
        raise Unavailable("the pod does not answer", field=path, found=f"{type(error).__name__}: {error}"[:300]) from error


async def _send(socket: aiohttp.ClientWebSocketResponse, blocks: Iterable[bytes]) -> None:
    for block in blocks:
        await socket.send_bytes(bytes([_STDIN]) + block)


async def _receive(socket: aiohttp.ClientWebSocketResponse, what: str) -> Ended:
    said = {_STDOUT: bytearray(), _STDERR: bytearray()}
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, content = message.data[0], message.data[1:]
        if channel == _STATUS:
            return Ended(_code(json.loads(content), what), bytes(said[_STDOUT]), said[_STDERR].decode("utf-8", "replace"))
        if channel in said and len(said[channel]) + len(content) <= _LIMIT:
            said[channel] += content
    raise ConnectionError(f"the connection ended before the program (code {socket.close_code})")


def _code(status: dict[str, Any], what: str) -> int:
    """Return the exit code that a Status tells.

    Raises:
        Unavailable: nothing was run.
    """
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise Unavailable("the pod runs nothing", field=what, found=str(status.get("message", status))[:300])
