"""How many builds run at once, and who is next: the one whose resource is oldest."""

from __future__ import annotations

from collections.abc import Collection

from stillhouse.reconcile.cache import Key

__all__ = ["Admission"]


class Admission:
    """Who waits for a build to begin. In memory alone: a new process asks every model again, and has the same order."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Key, str] = {}

    def ask(self, key: Key, created: str, building: Collection[Key]) -> int:
        """Return 0 where a model's build may begin now, else how many are before it, itself included."""
        if key in building:
            self._waiting.pop(key, None)
            return 0
        self._waiting[key] = created
        order = sorted(self._waiting, key=lambda each: (self._waiting[each], each))
        position = order.index(key) + 1
        if position <= self._most - len(building):
            del self._waiting[key]
            return 0
        return position

    def forget(self, key: Key) -> None:
        """Forget a model that does not want to build any more."""
        self._waiting.pop(key, None)
