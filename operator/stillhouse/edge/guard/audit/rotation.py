"""How much of the log is kept: when a file is full, and which of the oldest may go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillhouse.edge.guard.audit.files import first_line
from stillhouse.edge.guard.audit.records import BadRecord, Record, parse

__all__ = ["Rotation"]


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is full, and how many are kept; None is no limit.

    `size`: bytes, exceeded by one record at most. `age`: seconds since the file was begun. `files`: with the one that is
    written. `kept`: seconds since the youngest record of a file.
    """

    size: int = 16 << 20
    age: float | None = 24 * 3600.0
    files: int | None = 64
    kept: float | None = None

    def __post_init__(self) -> None:
        """Check the figures.

        Raises:
            ValueError: one of them is none that a limit can have.
        """
        if self.size < 1 or (self.files is not None and self.files < 1):
            raise ValueError("size and files must be at least 1")
        if (self.age is not None and self.age <= 0) or (self.kept is not None and self.kept <= 0):
            raise ValueError("age and kept must be above 0")

    def full(self, size: int, age: float) -> bool:
        """Say whether a file of this size and age takes no more records."""
        return size >= self.size or (self.age is not None and age >= self.age)

    def surplus(self, files: list[Path], now: float) -> tuple[list[Path], Record] | None:
        """Return which files are beyond what is kept, and the first record that stays; None: all are kept.

        `files`: the log's, the oldest first; the last one always stays.
        """
        removed = 0
        after: Record | None = None
        for file in files[1:]:
            too_many = self.files is not None and len(files) - removed > self.files
            if not too_many and self.kept is None:
                break
            try:
                first = parse(first_line(file))
            except BadRecord:
                break  # damaged: what is left of it is evidence
            if not too_many and self.kept is not None and now - first.seconds < self.kept:
                break
            removed, after = removed + 1, first
        return None if after is None else (files[:removed], after)
