"""How a call ends: gRPC's trailers, and an answer that is nothing but them."""

from __future__ import annotations

from typing import Any

from stillhouse.edge.status import RpcError, packed
from stillhouse.edge.wire.framing import ENCODINGS
from stillhouse.edge.wire.headers import pairs

__all__ = ["HEADERS", "ended", "trailers_of"]

HEADERS = [("content-type", "application/grpc"), ("grpc-accept-encoding", ENCODINGS)]
"""Of every answer."""


def trailers_of(error: RpcError) -> list[tuple[str, str]]:
    """Return the trailers of a call that failed."""
    found = [("grpc-status", str(int(error.code)))]
    if error.message:
        found.append(("grpc-message", packed(error.message)))
    if error.pushback is not None:
        found.append(("grpc-retry-pushback-ms", error.pushback))
    return found + pairs(error.trailing)


async def ended(request: Any, error: RpcError) -> None:
    """Answer with a status alone ("Trailers-Only")."""
    await request.respond(200, headers=HEADERS + trailers_of(error))
