"""SHA-256 of files and of data. Content addresses everywhere rest on these few functions, so there is one of each.

A digest in an artifact, a receipt or a pin is written `sha256:…`; a key is the bare hex.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["canonical_json", "content_digest", "content_hash", "file_digest", "hash_file"]

_BLOCK = 1 << 20
_PREFIX = "sha256:"


def canonical_json(data: Any) -> bytes:
    """Return the one JSON form of `data` that hashes are taken over: sorted keys, no spaces, UTF-8.

    Raises:
        ValueError, TypeError: it is not JSON data (NaN and infinity are none).
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def content_hash(data: Any) -> str:
    """Return the SHA-256, in hex, of the canonical JSON form of `data`."""
    return hashlib.sha256(canonical_json(data)).hexdigest()


def content_digest(data: Any) -> str:
    """Return `sha256:…` over the canonical JSON form of `data`."""
    return _PREFIX + content_hash(data)


def hash_file(path: Path, *, sync: bool = False, report: Callable[[int], None] | None = None) -> tuple[int, str]:
    """Return (bytes, SHA-256 in hex) of a file; with `sync` its data is on disk afterwards.

    `report` is told the bytes read so far, after every block: one file may be gigabytes.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if report is not None:
                report(size)
        if sync:
            os.fsync(stream.fileno())
    return size, digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return `sha256:…` over a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    return _PREFIX + hash_file(path)[1]
