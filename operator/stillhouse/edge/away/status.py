"""How a call ends: gRPC's codes without gRPC, and one error that carries them."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CallError", "Code", "Refused", "code_of"]


class Code(IntEnum):
    """gRPC's status codes, by their numbers on the wire."""

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


class CallError(Exception):
    """A call that ended with another code than OK.

    `pushback`: the value of `grpc-retry-pushback-ms` as it came. `ours`: it was the gateway that ended the call, at a deadline
    that it thinks long enough.
    """

    def __init__(self, code: int, message: str = "", *, pushback: str | None = None, ours: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.pushback = pushback
        self.ours = ours

    def __str__(self) -> str:
        name = Code(self.code).name if 0 <= self.code <= 16 else str(self.code)
        return f"{name}: {self.message}" if self.message else name


class Refused(CallError):
    """The gateway refused, and asked no backend: nobody tries that again, and no backend is to blame."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(code, message, pushback="-1", ours=True)


def code_of(error: BaseException) -> int:
    """Give the code that an error stands for; connection errors are UNAVAILABLE, whatever is unknown is UNKNOWN."""
    if isinstance(error, CallError):
        return error.code
    if isinstance(error, TimeoutError):  # before OSError, whose child it is
        return Code.DEADLINE_EXCEEDED
    if isinstance(error, OSError | EOFError):
        return Code.UNAVAILABLE
    return Code.UNKNOWN
