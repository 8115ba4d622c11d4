"""What all connections together may hold before they have shown who they are; beyond it, who holds the most gives way."""

from __future__ import annotations

import logging

from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.call import Load

__all__ = ["Held", "Room"]

_log = logging.getLogger(__name__)


class Room:
    """A bound over all connections. `what` is bound, in messages; `most` of it is held at once."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self._of: dict[Load, int] = {}
        self.total = 0

    def take(self, load: Load, amount: int) -> None:
        """Let a connection hold more. Where there is no room, another one that holds the most is ended.

        Raises:
            RpcError: RESOURCE_EXHAUSTED; this one itself holds the most. Nothing is taken.
        """
        mine = self._of.get(load, 0) + amount
        if self.total + amount > self._most:
            other = max(self._of, key=self._of.__getitem__, default=load)
            if other is load or self._of[other] <= mine:
                raise RpcError(Code.RESOURCE_EXHAUSTED, f"this connection has too much under way: {mine} {self._what}")
            _log.warning("a connection is ended: of all it has the most under way, %d %s", self._of[other], self._what)
            other.end()
        self._of[load] = mine
        self.total += amount

    def give(self, load: Load, amount: int) -> None:
        """Let a connection hold less."""
        left = self._of.get(load, 0) - amount
        if left > 0:
            self._of[load] = left
        else:
            self._of.pop(load, None)
        self.total -= amount


class Held:
    """What one call holds of a room; without one, or of a connection that nobody counts, nothing is bound."""

    __slots__ = ("_load", "_room", "_size")

    def __init__(self, room: Room | None, load: Load | None) -> None:
        self._room, self._load, self._size = room, load, 0

    @staticmethod
    def arriving(load: Load | None) -> Held:
        """Hold nothing yet of what may arrive."""
        return Held(load.arriving if load is not None else None, load)

    def more(self, amount: int) -> None:
        """Hold more. Raises RpcError where there is no room."""
        self.now(self._size + amount)

    def now(self, size: int) -> None:
        """Hold so much from now on. Raises RpcError where there is no room."""
        if self._room is None or self._load is None or size == self._size:
            return
        if size > self._size:
            self._room.take(self._load, size - self._size)
        else:
            self._room.give(self._load, self._size - size)
        self._size = size

    def end(self) -> None:
        """Hold nothing any more."""
        self.now(0)
