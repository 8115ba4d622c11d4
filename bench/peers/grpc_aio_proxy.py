"""Peer: the proxy that a team writes in an afternoon with grpc.aio. Bytes are passed on unread, over two channels.

`python -m bench.peers.grpc_aio_proxy PORT BACKEND`
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
import grpc.aio
import uvloop


class Proxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method, as unary bytes."""

    def __init__(self, backend: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # else two channels share one connection
        self._channels = [grpc.aio.insecure_channel(backend, options=options) for _ in range(2)]
        self._turn = 0

    def service(self, details: Any) -> Any:
        method = details.method

        async def unary(request: bytes, context: Any) -> bytes:
            self._turn += 1
            call = self._channels[self._turn % 2].unary_unary(method)
            answer = await call(request, timeout=context.time_remaining())
            return bytes(answer)

        return grpc.unary_unary_rpc_method_handler(unary)


async def serve(port: int, backend: str) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Proxy(backend),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
