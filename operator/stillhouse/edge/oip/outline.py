"""How many parts a request has, told before it is parsed: two bytes of a message can cost eighty in memory, and time to make.

Only what is large enough to hurt is looked at, and only as far as its parts may be many: the message itself, and each tensor.
"""

from __future__ import annotations

from stillhouse.edge.status import Code, RpcError

__all__ = ["LARGE", "MOST_PARTS", "bounded"]

LARGE = 16 << 10
"""Bytes; what is smaller becomes a megabyte at most."""
MOST_PARTS = 4096
"""Tensors, parameters, outputs and raw contents, with the fields of each."""
_NESTED = frozenset({4, 5, 6})
"""Parameters, inputs, outputs of a `ModelInferRequest`. Elements of typed contents are not counted: they cost eight times a
request's bytes at most, where these cost forty times."""


def bounded(body: bytes) -> None:
    """Look whether a request may be parsed.

    Raises:
        RpcError: INVALID_ARGUMENT; it has too many parts, or is no message.
    """
    if len(body) > LARGE:
        _count(body, 0, len(body), 0, nested=True)


def _count(body: bytes, at: int, end: int, parts: int, *, nested: bool) -> int:
    while at < end:
        parts += 1
        if parts > MOST_PARTS:
            raise RpcError(Code.INVALID_ARGUMENT, f"the request has more than {MOST_PARTS} parts")
        tag, at = _varint(body, at, end)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(body, at, end)
            if size > end - at:
                raise _broken()
            if nested and tag >> 3 in _NESTED:
                parts = _count(body, at, at + size, parts, nested=False)
            at += size
        elif kind == 0:
            _, at = _varint(body, at, end)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise _broken()  # groups: no message of the protocol has one
    if at > end:
        raise _broken()
    return parts


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _broken()


def _broken() -> RpcError:
    return RpcError(Code.INVALID_ARGUMENT, "the message cannot be read")
