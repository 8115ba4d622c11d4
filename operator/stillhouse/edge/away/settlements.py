"""How deliveries ended, and those ends that the disk would not take yet: kept in memory until it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from stillhouse.edge.away.records import Record

__all__ = ["Settlement", "Unsaved"]

UNSAVED_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a record's delivery ended."""

    record: Record
    code: int
    message: str = ""
    body: bytes = b""
    cut: bool = False


class Unsaved:
    """Ends that could not be written, by the record's number. Their records stay leased: nobody delivers them again."""

    def __init__(self) -> None:
        self._ends: dict[int, Settlement] = {}

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def ends(self) -> list[Settlement]:
        """Return them, in the order that they came in."""
        return list(self._ends.values())

    def remember(self, end: Settlement) -> None:
        """Keep an end; answers beyond `UNSAVED_BYTES` in all are dropped."""
        if sum(len(each.body) for each in self.ends) + len(end.body) > UNSAVED_BYTES:
            end = replace(end, body=b"", cut=True)
        self._ends[end.record.number] = end

    def forget(self, ends: Iterable[Settlement]) -> None:
        """Forget ends that are on the disk now."""
        for end in ends:
            self._ends.pop(end.record.number, None)
