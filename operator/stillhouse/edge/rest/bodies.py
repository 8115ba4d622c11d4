"""A request's body: read within a bound, inflated within the same one, parted into its JSON and its binary tensors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import orjson

from stillhouse.edge.rest.problems import HttpProblem

__all__ = ["LARGEST_JSON", "body_of", "document", "left_out", "parted"]

_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""`wbits` of zlib: gzip's container, zlib's container."""
_KNOWN = (("accept-encoding", "gzip, deflate"),)
LARGEST_JSON = 16 << 20
"""Bytes of JSON, whatever a body may have: what it says may take 25 times of that in memory (`[{},{},…]`)."""
_CLOSE = ("connection", "close")
_SHORT = 64 << 10
_NOT_FINITE = (b"NaN", b"Infinity")


async def body_of(request: Any, largest: int, more: Callable[[int], None]) -> bytes:
    """Return a request's body, inflated. `more` is told of every piece before it is kept, and may raise.

    Raises:
        HttpProblem: 413, it is larger than `largest` bytes, as it comes or inflated; 415, its encoding is not known; 400, it is
            not what its encoding says.
    """
    encoding = (request.headers.get("content-encoding") or b"identity").strip().lower()
    window = _WINDOW.get(encoding)
    if window is None and encoding != b"identity":
        named = encoding[:40].decode("latin-1")
        known = _KNOWN if await left_out(request) else (*_KNOWN, _CLOSE)
        raise HttpProblem(415, f"content-encoding {named}: gzip and deflate are understood", known)
    told = request.headers.get("content-length")
    if told is not None and told.isdigit() and int(told[:20]) > largest:
        raise _too_large(largest)  # nothing of it is read
    held = bytearray()  # pieces of a few bytes each would take many times of them
    async for piece in request.aiter_bytes():
        if len(held) + len(piece) > largest:
            raise _too_large(largest)
        more(len(piece))
        held += piece
    body = bytes(held)
    return body if window is None else _inflated(body, window, largest)


async def left_out(request: Any) -> bool:
    """Read a short body that nobody needs: a client that is refused while it still sends would see a broken connection.

    Return whether that was all; of a longer one the rest is not read, and the connection ends with the answer.
    """
    if request.headers.get("expect") is not None:
        return False  # it waits to be asked for its body
    size = 0
    async for piece in request.aiter_bytes():
        size += len(piece)
        if size > _SHORT:
            return False
    return True


def _inflated(body: bytes, window: int, largest: int) -> bytes:
    engine = zlib.decompressobj(window)
    try:
        plain = engine.decompress(body, largest + 1)
    except zlib.error as error:
        raise HttpProblem(400, f"the body cannot be inflated: {error}") from error
    if len(plain) > largest:
        raise _too_large(largest)
    if not engine.eof or engine.unused_data:
        raise HttpProblem(400, "the body is no whole compressed one")
    return plain


def _too_large(largest: int) -> HttpProblem:
    return HttpProblem(413, f"a body of more than {largest} bytes", (_CLOSE,))


def parted(body: bytes, length: bytes | None) -> tuple[bytes, bytes]:
    """Return JSON and binary tensors. `length`: the value of `inference-header-content-length`, None where all is JSON.

    Raises:
        HttpProblem: 400; the length is none, or longer than the body.
    """
    if length is None:
        return body, b""
    if not length.isdigit() or len(length) > 18 or int(length) > len(body):
        told = length[:40].decode("latin-1")
        raise HttpProblem(400, f"inference-header-content-length: {told!r}; a number up to the body's {len(body)} is expected")
    size = int(length)
    return body[:size], body[size:]


def document(text: bytes) -> dict[str, Any]:
    """Return a JSON object. `NaN` and `Infinity`, which are no JSON and which Python's and Triton's clients write, are read too.

    Raises:
        HttpProblem: 400; it is none. 413; it is too large.
    """
    if len(text) > LARGEST_JSON:
        raise HttpProblem(413, f"JSON of more than {LARGEST_JSON} bytes: send large tensors as binary ones")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not any(each in text for each in _NOT_FINITE):
            raise HttpProblem(400, f"the body is no JSON: {error}"[:300]) from None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as again:
            raise HttpProblem(400, f"the body is no JSON: {again}"[:300]) from None
    if not isinstance(found, dict):
        raise HttpProblem(400, "the body is no JSON object")
    return found
