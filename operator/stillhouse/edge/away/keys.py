"""Idempotency keys: the client's own, or a UUIDv7 (RFC 9562)."""

from __future__ import annotations

import os
import re
import uuid

from stillhouse.edge.status import Code, Refused

__all__ = ["check_key", "new_key"]

KEY = re.compile(r"[!-~]{1,128}")


def new_key(wall: float) -> str:
    """Make a UUIDv7: 48 bits of milliseconds since 1970 from `wall` in seconds, then random bits."""
    milliseconds = max(0, int(wall * 1000)) & ((1 << 48) - 1)
    chance = int.from_bytes(os.urandom(10), "big") & ((1 << 74) - 1)
    high, low = chance >> 62, chance & ((1 << 62) - 1)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low))


def check_key(key: str) -> str:
    """Give the key back. Raises `Refused` INVALID_ARGUMENT where it is not 1 to 128 visible ASCII characters."""
    if KEY.fullmatch(key):
        return key
    raise Refused(
        Code.INVALID_ARGUMENT, f"an idempotency key has 1 to 128 visible ASCII characters, and this one is {key[:40]!r}"
    )
