"""Messages as they come, and the properties of those that go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

__all__ = ["Arrived", "notes"]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message. `expiry_s`: seconds that were left of it when it came; `at`: the loop's time then. `age`: of the connection."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    age: int
    at: float
    response: str = ""
    correlation: bytes = b""
    expiry_s: int | None = None
    notes: tuple[tuple[str, str], ...] = ()


def notes(
    pairs: Sequence[tuple[str, str]],
    *,
    content: str = "",
    correlation: bytes = b"",
    response: str = "",
    expiry_s: int | None = None,
) -> Properties:
    """Return the properties of a message; `pairs` are its user properties."""
    found: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if content:
        found.ContentType = content
    if correlation:
        found.CorrelationData = correlation
    if response:
        found.ResponseTopic = response
    if expiry_s is not None:
        found.MessageExpiryInterval = min(max(expiry_s, 1), 0xFFFFFFFF)
    for pair in pairs:
        found.UserProperty = pair  # paho appends
    return found  # type: ignore[no-any-return]
