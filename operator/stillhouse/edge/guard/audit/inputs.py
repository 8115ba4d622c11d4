"""What a record says about inputs: how long they are and a keyed digest; themselves only where that was asked for."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from stillhouse.edge.guard.audit.records import Key

__all__ = ["Inputs"]


class Inputs:
    """Describes inputs for records.

    Digests have a key, since short texts can be guessed. It comes from the log's key: equal inputs then have equal digests for
    good. Without one it is made up and never written: digests can be compared within one run of the process.
    """

    __slots__ = ("_most", "_raw", "_secret")

    def __init__(self, key: Key | None, *, raw: bool = False, most: int = 16 << 10) -> None:
        """Prepare. `raw`: keep inputs themselves, up to `most` bytes of each."""
        self._secret = key.digests if key is not None else secrets.token_bytes(32)
        self._raw = raw
        self._most = most

    def digest(self, data: bytes | memoryview) -> str:
        """Return the keyed digest of an input (BLAKE2b; it is on the way of every request, and quick)."""
        return "blake2b:" + hashlib.blake2b(data, digest_size=16, key=self._secret).hexdigest()

    def describe(self, inputs: Mapping[str, bytes | memoryview], *, raw: bool = True) -> dict[str, Any]:
        """Return the data of a record about inputs by name. `raw` False: without them, whatever was asked for."""
        return {name: self._one(data, raw and self._raw) for name, data in inputs.items()}

    def _one(self, data: bytes | memoryview, raw: bool) -> dict[str, Any]:
        told: dict[str, Any] = {"bytes": len(data), "digest": self.digest(data)}
        if raw:
            part = bytes(data[: self._most])
            if len(part) < len(data):
                told["cut"] = True
            try:
                told["text"] = part.decode()
            except UnicodeDecodeError:
                told["base64"] = base64.b64encode(part).decode()
        return told
