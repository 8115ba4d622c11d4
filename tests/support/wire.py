"""Both ends of the wire: our server and client, and grpc.aio's, with the same methods.

`/test.Echo/Say` answers with the message; `/test.Echo/Fail` fails as its metadata `code` and `words` say; `/test.Echo/Slow` takes
`metadata["seconds"]`; `/test.Echo/Talk` answers each message of a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
import grpc.aio

from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call, Limits
from stillhouse.edge.wire.server import Server

__all__ = ["FAIL", "SAY", "SLOW", "TALK", "Seen", "our_server", "run", "their_server", "until"]

SAY, FAIL, SLOW, TALK = (f"/test.Echo/{name}" for name in ("Say", "Fail", "Slow", "Talk"))


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's work in a loop of its own, for a minute at most."""
    asyncio.run(asyncio.wait_for(work, 60))


async def until(look: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; fail where it does not come about."""
    for _ in range(int(seconds / 0.01)):
        if look():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


class Seen:
    """What a server has seen: calls of SLOW that began, ended, and were cancelled."""

    def __init__(self) -> None:
        self.begun = self.ended = self.cancelled = 0
        self.metadata: tuple[Any, ...] = ()


async def _slow(seen: Seen, seconds: float) -> None:
    seen.begun += 1
    try:
        await asyncio.sleep(seconds)
        seen.ended += 1
    except asyncio.CancelledError:
        seen.cancelled += 1
        raise


@contextlib.asynccontextmanager
async def our_server(seen: Seen, limits: Limits | None = None, tls: Any = None) -> AsyncIterator[tuple[Server, str]]:
    async def say(call: Call, message: bytes) -> Reply:
        seen.metadata = call.metadata
        return Reply(message, tuple((f"back-{name}", value) for name, value in call.metadata), (("first", "1"),))

    async def fail(call: Call, message: bytes) -> Reply:
        told = dict(call.metadata)
        raise RpcError(Code(int(str(told["code"]))), bytes(told["words-bin"]).decode(), (("more", "x"),))  # type: ignore[arg-type]

    async def slow(call: Call, message: bytes) -> Reply:
        await _slow(seen, float(str(dict(call.metadata)["seconds"])))
        return Reply(message)

    async def talk(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for message in messages:
            if message == b"fail":
                raise RpcError(Code.ABORTED, "as you wish")
            yield message.upper()

    server = Server({SAY: say, FAIL: fail, SLOW: slow}, {TALK: talk}, limits=limits)
    port = await server.listen("127.0.0.1", 0, tls)
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.drain(5.0)


class _Theirs(grpc.GenericRpcHandler):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def service(self, details: Any) -> Any:
        handlers = {SAY: self._say, FAIL: self._fail, SLOW: self._slow}
        if details.method in handlers:
            return grpc.unary_unary_rpc_method_handler(handlers[details.method])
        return grpc.stream_stream_rpc_method_handler(self._talk) if details.method == TALK else None

    async def _say(self, message: bytes, context: Any) -> bytes:
        self._seen.metadata = tuple((name, value) for name, value in context.invocation_metadata())
        told = [(f"back-{name}", value) for name, value in self._seen.metadata if name != "user-agent"]
        await context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata(told)
        return message

    async def _fail(self, message: bytes, context: Any) -> bytes:
        told = dict(context.invocation_metadata())
        code = next(each for each in grpc.StatusCode if each.value[0] == int(told["code"]))
        await context.abort(code, told["words-bin"].decode(), (("more", "x"),))
        raise AssertionError

    async def _slow(self, message: bytes, context: Any) -> bytes:
        await _slow(self._seen, float(dict(context.invocation_metadata())["seconds"]))
        return message

    async def _talk(self, messages: Any, context: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            if message == b"fail":
                await context.abort(grpc.StatusCode.ABORTED, "as you wish")
            yield message.upper()


@contextlib.asynccontextmanager
async def their_server(seen: Seen, port: int = 0, options: Any = ()) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *options])
    server.add_generic_rpc_handlers((_Theirs(seen),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0.2)
