"""What depends on the machine's hour, and not on the rows: measured again, it may come out otherwise. Without numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

__all__ = ["SPEED", "too_noisy"]

SPEED: dict[str, tuple[Literal["min", "max"], str]] = {
    "latencyP50": ("max", "s"),
    "latencyP99": ("max", "s"),
    "throughput": ("min", "/s"),
}
"""Figure → what its limit is, and its unit."""


def too_noisy(candidates: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether speed leaves one of the candidates (as a gate reports them) open."""
    return any(
        candidate["outcome"] == "inconclusive"
        and any(check["outcome"] == "inconclusive" and check["name"] in SPEED for check in candidate["checks"])
        for candidate in candidates
    )
