"""What the queue keeps: requests, how they ended, and its bounds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from stillhouse.edge.status import Code, Refused

__all__ = ["Book", "Limits", "Outcome", "QueueError", "QueueFull", "QueueState", "Record", "Request", "Stand"]


class QueueError(Refused):
    """The disk queue cannot do what was asked: the disk is full or fails, or the file belongs to another process."""


class QueueFull(QueueError):
    """The queue holds as much as it may. Nothing was kept."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.RESOURCE_EXHAUSTED, message)


class QueueState(StrEnum):
    """Where a record stands. `READ`: its answer was taken and is gone; the key still keeps the request from being run again."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Limits:
    """The queue's bounds; seconds and bytes.

    `age`: a request that waits longer ends as expired. `keep`: how long outcomes and keys stay. `outcomes`, `outcome_bytes`:
    beyond these the oldest outcomes go first. `retry_most`: no record waits longer than that for its next try.
    """

    records: int = 10_000
    bytes: int = 256 * 2**20
    record_bytes: int = 4 * 2**20
    age: float = 24 * 3600.0
    keep: float = 24 * 3600.0
    outcomes: int = 10_000
    outcome_bytes: int = 256 * 2**20
    retry_most: float = 300.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is kept. `owner`: the client that it belongs to; its keys are its own. `target`: the method's path."""

    owner: str
    key: str
    target: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def headers_text(self) -> str:
        """Give the headers as they are stored."""
        return json.dumps(self.headers, separators=(",", ":")) if self.headers else ""

    def digest(self) -> bytes:
        """Hash what the request says: tells one key's two requests apart, and a torn or rotten record from a whole one."""
        hashed = hashlib.blake2b(digest_size=16)
        for part in (self.target.encode(), self.headers_text().encode()):
            hashed.update(len(part).to_bytes(8, "little") + part)
        hashed.update(self.body)
        return hashed.digest()

    def size(self) -> int:
        """Bytes that count; 200 are a row's own."""
        return len(self.body) + len(self.target) + len(self.headers_text()) + len(self.owner) + len(self.key) + 200


@dataclass(frozen=True, slots=True)
class Record:
    """A request that is to be delivered. `attempts`: how often it was tried; `age`: seconds in the queue."""

    number: int
    request: Request
    attempts: int
    age: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a request stands. `code`, `message`, `body`: how its delivery ended, once it did; `cut`: its answer was not kept."""

    state: QueueState
    key: str
    attempts: int
    code: int = 0
    message: str = ""
    body: bytes = b""
    cut: bool = False


@dataclass(slots=True)
class Book:
    """What the file holds, in figures; a transaction that fails takes its changes back."""

    waiting: int = 0
    waiting_bytes: int = 0
    outcomes: int = 0
    outcome_bytes: int = 0
    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Stand:
    """The queue at one moment, for metrics and `still edge status`. `oldest`: seconds.

    `damaged`: files that could not be read and were set aside. `unsaved`: ends that the disk did not take yet.
    """

    waiting: int
    waiting_bytes: int
    outcomes: int
    outcome_bytes: int
    oldest: float
    in_delivery: int
    accepted: int
    delivered: int
    failed: int
    expired: int
    refused: int
    damaged: int
    unsaved: int
