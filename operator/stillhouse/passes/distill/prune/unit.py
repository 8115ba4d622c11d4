"""Units of one layer, and the places that they have in other layers' weights."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Slot", "Units"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where units lie in the rows (of a writer) or columns (of a reader) of layer `path`: from `offset` on, `block` for each."""

    path: str
    block: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Units:
    """`count` units of a kind (`heads`, `neurons`, `channels`) of the layer `name`."""

    kind: str
    name: str
    count: int
    writers: tuple[Slot, ...]
    readers: tuple[Slot, ...]
