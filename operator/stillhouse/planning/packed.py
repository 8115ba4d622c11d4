"""A build's record as short text: a worker packs what is too long for its termination message, the operator unpacks it. Pure."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

__all__ = ["PACKED", "pack", "told", "unpack"]

PACKED = "packedRecord"
"""Where it stands in the message, in place of `record`."""
_MOST = 1 << 16
"""Bytes of JSON: what unpacks to more is no record."""


def pack(record: Mapping[str, Any]) -> str:
    """Return a record as text of ASCII that JSON has nothing to escape in: about half as long."""
    content = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.b85encode(zlib.compress(content, 9)).decode("ascii")


def unpack(text: str) -> dict[str, Any]:
    """Return the record.

    Raises:
        ValueError: it is none.
    """
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(base64.b85decode(text), _MOST)
    except zlib.error as error:
        raise ValueError(f"no packed record: {error}") from error
    if not unpacking.eof:
        raise ValueError("no packed record: it is cut, or too long")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("no packed record: no JSON object")
    return found


def told(message: str | bytes) -> dict[str, Any]:
    """Return what a termination message says, its record unpacked.

    Raises:
        ValueError: it is cut, or none of ours.
    """
    data = json.loads(message)
    if not isinstance(data, dict):
        raise ValueError("no termination message of ours: no JSON object")
    if PACKED not in data:
        return data
    record = unpack(str(data.pop(PACKED)))
    return {**data, "record": record}
