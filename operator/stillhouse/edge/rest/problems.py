"""What goes wrong, in HTTP's words: gRPC's codes as statuses, and what only HTTP knows."""

from __future__ import annotations

import math
from collections.abc import Mapping

from stillhouse.edge.status import Code, RpcError

__all__ = ["STATUS", "HttpProblem", "headers_of"]

STATUS: Mapping[Code, int] = {
    Code.OK: 200, Code.CANCELLED: 499, Code.UNKNOWN: 500, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404, Code.ALREADY_EXISTS: 409, Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400, Code.ABORTED: 409, Code.OUT_OF_RANGE: 400, Code.UNIMPLEMENTED: 501, Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503, Code.DATA_LOSS: 500, Code.UNAUTHENTICATED: 401,
}  # fmt: skip
"""As `google/rpc/code.proto` maps them, which is what grpc-gateway, Envoy and their clients know."""


class HttpProblem(Exception):
    """A request that never became a call. `headers`: what goes with the status (`allow` of a 405)."""

    def __init__(self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, message)
        self.status, self.message, self.headers = status, message, headers


def headers_of(error: RpcError) -> list[tuple[str, str]]:
    """Return the headers that go with an error: how a client shows who it is, and when it may come again (whole seconds)."""
    if error.code is Code.UNAUTHENTICATED:
        return [("www-authenticate", "Bearer")]
    told = error.pushback
    if told is not None and told.isascii() and told.isdigit() and len(told) < 10:
        return [("retry-after", str(math.ceil(int(told) / 1000)))]
    return []
