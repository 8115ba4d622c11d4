"""Receipts: what a step was, what it was made from, and what it gave."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillhouse.digests import canonical_json, content_digest

__all__ = ["Receipt"]

FORMAT = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of a finished step.

    `key` is the step's content hash, `parents` maps role → step key, `artifact` is the digest of what it made,
    `facts` what it found out (JSON), `seconds` how long the attempt that finished it ran, `started` RFC 3339 in UTC,
    `toolchain` package → version, `machine` what it ran on.
    """

    key: str
    step: str
    stage: str
    pass_name: str
    version: int
    config: Mapping[str, Any]
    parents: Mapping[str, str]
    artifact: str
    kind: str
    size: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    toolchain: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data with a digest over itself.

        Raises:
            ValueError, TypeError: a fact is not JSON data (NaN and infinity are none).
        """
        plain: dict[str, Any] = json.loads(canonical_json({"format": FORMAT, **dataclasses.asdict(self)}))
        return {**plain, "digest": content_digest(plain)}

    @classmethod
    def from_json(cls, data: Any) -> Receipt | None:
        """Build from JSON data; None when it is damaged or of another format, which counts as not there."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            return None
        values = {name: value for name, value in data.items() if name != "digest"}
        try:
            if data.get("digest") != content_digest(values):
                return None
            receipt = cls(**{name: value for name, value in values.items() if name != "format"})
        except (TypeError, ValueError):
            return None
        return receipt if isinstance(receipt.artifact, str) and _DIGEST.fullmatch(receipt.artifact) else None
