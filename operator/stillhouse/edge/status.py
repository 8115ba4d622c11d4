"""How a call ends: codes, and the error that carries one (gRPC's documents PROTOCOL-HTTP2.md and statuscodes.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import quote, unquote_to_bytes

__all__ = ["KEY", "Code", "Metadata", "Refused", "Reply", "RpcError", "code_of", "code_of_http", "packed", "unpacked"]

KEY = "idempotency-key"
"""The metadata that names a request: a client's towards us, ours towards the cloud."""
Metadata = tuple[tuple[str, str | bytes], ...]
"""Names in lower case; those that end in `-bin` have bytes."""


class Code(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call that did not end well. It is what a peer is told or has told, no mistake of this program's user.

    `unprocessed`: no server has begun with it, so that it may be sent elsewhere whatever it does. `ours`: it was the gateway that
    ended the call, at a deadline that it thinks long enough. `pushback`: the value of `grpc-retry-pushback-ms` as it came.
    `detail`: what stands in the message's place in our own logs, and clients need not know: addresses.
    """

    def __init__(
        self,
        code: int,
        message: str = "",
        trailing: Metadata = (),
        *,
        unprocessed: bool = False,
        ours: bool = False,
        pushback: str | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(code, message)
        self.code = Code(code) if 0 <= code <= 16 else Code.UNKNOWN  # as the specification asks of a number that is none
        self.message, self.trailing, self.detail = message, trailing, detail
        self.unprocessed, self.ours, self.pushback = unprocessed, ours, pushback

    def __str__(self) -> str:
        """Return it as our logs have it. A client is told `message`."""
        said = self.detail or self.message
        return f"{self.code.name}: {said}" if said else self.code.name


class Refused(RpcError):
    """The gateway refused, and asked no backend: nobody tries that again, and no backend is to blame."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(code, message, ours=True, pushback="-1")


def code_of(error: BaseException) -> Code:
    """Give the code that an error stands for; connection errors are UNAVAILABLE, whatever is unknown is UNKNOWN."""
    if isinstance(error, RpcError):
        return error.code
    if isinstance(error, TimeoutError):  # before OSError, whose child it is
        return Code.DEADLINE_EXCEEDED
    if isinstance(error, OSError | EOFError):
        return Code.UNAVAILABLE
    return Code.UNKNOWN


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of a unary call."""

    message: bytes
    trailing: Metadata = ()
    initial: Metadata = ()


_HTTP = {
    400: Code.INTERNAL, 401: Code.UNAUTHENTICATED, 403: Code.PERMISSION_DENIED, 404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE, 502: Code.UNAVAILABLE, 503: Code.UNAVAILABLE, 504: Code.UNAVAILABLE,
}  # fmt: skip


def code_of_http(status: int) -> Code:
    """Return what an answer without a gRPC status means (the specification's http-grpc-status-mapping.md)."""
    return _HTTP.get(status, Code.UNKNOWN)


_SAFE = "".join(chr(each) for each in range(0x20, 0x7F) if chr(each) != "%")
_LONGEST = 2048


def packed(message: str) -> str:
    """Return a message as `grpc-message` has it: percent-encoded UTF-8, cut so that no peer's limit of headers is met."""
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 1] + "…"
    return quote(message, safe=_SAFE, errors="replace")


def unpacked(text: str) -> str:
    """Return the message; what is not well encoded stays as it is, as the specification asks."""
    return unquote_to_bytes(text).decode("utf-8", "replace")
