"""Messages in a body: one byte (compressed or not), four of length, the message. Compressed ones are bounded before they grow."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.asking import pieces

__all__ = ["ENCODINGS", "Deframer", "framed", "single", "whole"]

ENCODINGS = "identity,gzip,deflate"
"""What is understood; the value of `grpc-accept-encoding`. Answers are not compressed: tensors hardly are smaller for it."""
_HEAD = 5
_WINDOW = {"gzip": 31, "deflate": 15}
"""`wbits` of zlib: gzip's container, zlib's container."""


def framed(message: bytes) -> bytes:
    """Return a message as it stands in a body."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def single(body: bytes, encoding: str, largest: int) -> bytes:
    """Return the one message of a whole body.

    Raises:
        RpcError: there is none, more than one, a half one, or one that is too large.
    """
    if len(body) >= _HEAD and not body[0] and int.from_bytes(body[1:5], "big") == len(body) - _HEAD <= largest:
        return body[_HEAD:]
    deframer = Deframer(encoding, largest)
    messages = deframer.feed(body)
    deframer.end()
    if len(messages) != 1:
        raise RpcError(Code.UNIMPLEMENTED, f"one message is expected, {len(messages)} came")
    return messages[0]


async def whole(source: Any, largest: int, what: str, more: Callable[[int], None] | None = None) -> bytes:
    """Return the whole body of a request or a response, which holds one message of at most `largest` bytes; `what` it is.

    `more` is told of every piece before it is kept, and may raise.

    Raises:
        RpcError: more has come, which is not kept.
    """
    first: bytes = b""
    held: bytearray | None = None  # pieces of a few bytes each would take many times of them
    size = 0
    async for piece in pieces(source):
        size += len(piece)
        if size > largest + _HEAD:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{what} of more than {largest} bytes")
        if more is not None:
            more(len(piece))
        if held is not None:
            held += piece
        elif first:
            held = bytearray(first + piece)
        else:
            first = piece
    return first if held is None else bytes(held)


class Deframer:
    """Takes a body in pieces and returns messages. `largest`: bytes of a message, before and after it is inflated."""

    def __init__(self, encoding: str, largest: int) -> None:
        self._encoding, self._largest = encoding, largest
        self._held = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the messages that are whole now.

        Raises:
            RpcError: one is too large (told by its head, before its bytes are kept), or compressed in a way that is not known.
        """
        held = self._held
        held += piece
        found: list[bytes] = []
        position = 0
        while len(held) - position >= _HEAD:
            size = int.from_bytes(held[position + 1 : position + _HEAD], "big")
            if size > self._largest:
                raise too_large(size, self._largest)
            if len(held) - position - _HEAD < size:
                break
            flag, position = held[position], position + _HEAD
            message = bytes(held[position : position + size])
            position += size
            found.append(self._plain(flag, message))
        if position:
            del held[:position]
        return found

    @property
    def waiting(self) -> int:
        """Return how many bytes wait for the rest of their message."""
        return len(self._held)

    def end(self) -> None:
        """Say that no more comes.

        Raises:
            RpcError: half a message is left.
        """
        if self._held:
            raise RpcError(Code.INTERNAL, "the body ends in the middle of a message")

    def _plain(self, flag: int, message: bytes) -> bytes:
        if flag == 0:
            return message
        window = _WINDOW.get(self._encoding) if flag == 1 else None
        if window is None:
            raise RpcError(Code.INTERNAL, f"a message is marked as compressed ({flag}), grpc-encoding is {self._encoding!r}")
        engine = zlib.decompressobj(window)
        try:
            plain = engine.decompress(message, self._largest + 1)
            if len(plain) > self._largest:
                raise too_large(len(plain), self._largest, "or more, inflated")
            if not engine.eof or engine.unused_data:
                raise RpcError(Code.INTERNAL, f"a message is no whole {self._encoding}")
        except zlib.error as error:
            raise RpcError(Code.INTERNAL, f"a message cannot be inflated: {error}") from error
        return plain


def too_large(size: int, largest: int, more: str = "") -> RpcError:
    """Return the error of a message that is larger than is taken."""
    return RpcError(Code.RESOURCE_EXHAUSTED, f"a message of {size} bytes {more}".rstrip() + f": {largest} are allowed")
