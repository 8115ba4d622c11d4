"""BYTES tensors as the Open Inference Protocol packs them: each element behind its length, four bytes, little-endian.

Plain data: the guard looks at requests with it where no tensors are known.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

__all__ = ["Malformed", "joined", "split"]

PREFIX = struct.Struct("<I")


class Malformed(ValueError):
    """The lengths and the bytes do not fit each other. `found`, `allowed`: what a client is told."""

    def __init__(self, message: str, found: str, allowed: str) -> None:
        self.found, self.allowed = found, allowed
        super().__init__(message)


def split(raw: bytes | memoryview, count: int) -> list[bytes]:
    """Return the `count` elements of a packed tensor. No length is believed before the bytes are there.

    Raises:
        Malformed: a length leads beyond the end, or there are more or fewer elements.
    """
    size = len(raw)
    if size < count * PREFIX.size:  # so a huge count is refused before anything is allocated for it
        raise Malformed("is too short for its shape", f"{size} bytes", f"at least {PREFIX.size} for each of {count} elements")
    elements: list[bytes] = []
    at = 0
    for number in range(count):
        if size - at < PREFIX.size:
            raise Malformed("ends early", f"{number} elements in {size} bytes", f"{count} elements")
        (length,) = PREFIX.unpack_from(raw, at)
        at += PREFIX.size
        if length > size - at:
            raise Malformed(f"element {number} is longer than what is left", f"{length} bytes", f"at most {size - at}")
        elements.append(bytes(raw[at : at + length]))
        at += length
    if at != size:
        raise Malformed("has bytes after its last element", f"{size - at} bytes", f"none after {count} elements")
    return elements


def joined(elements: Iterable[bytes]) -> bytes:
    """Return elements packed: what `split` takes apart."""
    return b"".join(part for each in elements for part in (PREFIX.pack(len(each)), each))
