"""Asks the worker of a build's pod how far it is. What it answers is a pod's word: bounded, and believed in its types alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stillhouse.clients.pods import PodReader

__all__ = ["Progress", "ProgressReader"]

_LARGEST = 16 << 10


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage is: `step` is number `position` of `total` (0: beside the steps), `figures` its count in words."""

    step: str
    position: int
    total: int
    figures: str

    def text(self) -> str:
        """Return it in words, at most 200 characters."""
        place = f" ({self.position}/{self.total})" if self.total else ""
        return (f"{self.step}{place}" + (f": {self.figures}" if self.figures else ""))[:200]


class ProgressReader(PodReader[Progress]):
    """GET /progress of pods, many at once. Use it as an async context manager."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "/progress", _LARGEST, _read)


def _read(data: Any) -> Progress | None:
    if not isinstance(data, dict):
        return None
    step, position, total, figures = (data.get(name) for name in ("step", "position", "total", "figures"))
    if not isinstance(step, str) or not isinstance(figures, str) or not step:
        return None
    if not isinstance(position, int) or not isinstance(total, int):
        return None
    return Progress(_plain(step), position, total, _plain(figures))


def _plain(text: str) -> str:
    """Return a line without what a terminal would act on."""
    return "".join(each if each.isprintable() else " " for each in text[:200])
