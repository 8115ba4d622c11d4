"""Which requests are compared: decided by a hash, so that a request that comes again is decided alike, in every process."""

from __future__ import annotations

import hashlib

__all__ = ["chosen"]

_PART = 4096


def chosen(share: float, salt: str, key: str, body: bytes = b"") -> bool:
    """Say whether a request belongs to the sample: a share of all, whoever sent them.

    `key` is the request's id or idempotency key. Some clients number nothing, or everything 1, so the body counts as well: its
    length, beginning and end.
    """
    if share <= 0:
        return False
    digest = hashlib.blake2b(f"{salt}\0{key}\0{len(body)}\0".encode("utf-8", "replace"), digest_size=8)
    digest.update(body[:_PART])
    digest.update(body[_PART:][-_PART:])
    return int.from_bytes(digest.digest(), "big") < share * (1 << 64)
