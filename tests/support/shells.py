"""Shells that stand for a pod's: one starts programs here, one asks a server that speaks exec's WebSocket protocol."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import WSMsgType, web
from kubernetes.aio import client

from stillhouse.clients.kube.api import KubeApi
from stillhouse.clients.kube.shell import run_in
from stillhouse.clients.sources.push.shell import Ended
from stillhouse.errors import EnvironmentProblem

__all__ = ["ExecServer", "HereShell", "SocketShell", "running_exec"]


@dataclass
class HereShell:
    """Programs of this machine. `breaks` connections break off, each after `after` bytes of input."""

    breaks: int = 0
    after: int = 0

    def run(self, words: Sequence[str], stdin: Iterable[bytes] = ()) -> Ended:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None
        sent = 0
        for block in stdin:
            if self.breaks and sent + len(block) > self.after:
                self.breaks -= 1
                process.stdin.write(block[: self.after - sent])
                process.stdin.close()
                process.wait()
                raise EnvironmentProblem("the pod does not answer", field="pod", found="cut")
            try:
                process.stdin.write(block)
                process.stdin.flush()
            except BrokenPipeError:  # it has ended without reading: what it said, and its exit code, tell why
                break
            sent += len(block)
        out, err = process.communicate()
        return Ended(process.returncode, out, err.decode())


@dataclass
class ExecServer:
    """An API server of which exec is all there is. `cut`: bytes of input after which the next connection breaks off."""

    url: str = ""
    cut: int = 0
    asked: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if request.match_info["pod"] != "p":
            return web.json_response({"message": "no"}, status=403)
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",), max_msg_size=0)
        await socket.prepare(request)
        words = request.query.getall("command")
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe)
        feeding = asyncio.create_task(self._feed(socket, process))
        assert process.stdout is not None
        assert process.stderr is not None
        await socket.send_bytes(b"\x01")  # as the kubelet's streams begin
        while content := await process.stdout.read(4096):
            await socket.send_bytes(b"\x01" + content)
        await socket.send_bytes(b"\x02" + await process.stderr.read())
        code = await process.wait()
        if not socket.closed:
            status = {"status": "Success"}
            if code:
                causes = [{"reason": "ExitCode", "message": str(code)}]
                status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}  # type: ignore[dict-item]
            await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        feeding.cancel()
        await socket.close()
        return socket

    async def _feed(self, socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        fed = 0
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data[:1] == b"\x00":
                block = message.data[1:]
                if self.cut and fed + len(block) > self.cut:
                    process.stdin.write(block[: self.cut - fed])
                    await process.stdin.drain()
                    self.cut = 0
                    process.stdin.close()
                    await socket.close(code=1011)
                    return
                process.stdin.write(block)
                await process.stdin.drain()
                fed += len(block)


@dataclass
class SocketShell:
    """What a pod's shell is: each program over a connection of its own."""

    server: ExecServer
    pod: str = "p"

    def run(self, words: Sequence[str], stdin: Iterable[bytes] = ()) -> Ended:
        async def ask() -> Ended:
            async with KubeApi(client.Configuration(host=self.server.url)) as kube:
                return await run_in(kube, "default", self.pod, "c", words, stdin)

        return asyncio.run(ask())


@contextmanager
def running_exec() -> Iterator[ExecServer]:
    server = ExecServer()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/default/pods/{pod}/exec", server.answer)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
