"""How many builds run at once, and who is next: the one whose resource is oldest."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Callable, Set

from stillhouse.reconcile.cache import Key

__all__ = ["UNSURE_S", "Admission", "said_place", "wait_s"]

UNSURE_S = 30.0
"""How long a place is kept for a Job of which nobody said whether it was made: its watch tells long before."""
_EXACT = 10
_STEPS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_LOOK_S, _LONGEST_S = 5.0, 60.0


def said_place(position: int) -> str:
    """Say a place: beyond the first ten in steps, since each build that begins moves everybody who waits."""
    if position <= _EXACT:
        return f"number {position}"
    return f"beyond number {max(step for step in _STEPS if step < position)}"


def wait_s(position: int) -> float:
    """Return after how many seconds who waits looks again (it reads the cache alone): later, the more are before it."""
    return min(_LONGEST_S, _LOOK_S * (1 + (position - 1) // _EXACT))


class Admission:
    """Who waits for a build to begin, and who is just beginning. In memory alone: a new process asks every model again.

    A place is taken by what is observed (`building`, and `between` its stages), and from the moment that it is given until
    `done` says that the Job is observed or was not made: many models are worked on at once, and between the two stand requests.
    A build whose next stage is refused by the cluster gives its place back until it is not: one model's quota must not stop all.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._waiting: dict[Key, str] = {}
        self._order: list[tuple[str, Key]] = []
        self._given: set[Key] = set()
        self._unsure: dict[Key, float] = {}
        self._stuck: set[Key] = set()

    def ask(self, key: Key, created: str, building: Set[Key], between: Set[Key] = frozenset()) -> int:
        """Return 0 where a model's build may begin now, else how many are before it, itself included.

        0 gives it a place until `done`.
        """
        now = self._clock()
        self._unsure = {one: until for one, until in self._unsure.items() if until > now}
        taken = {*building, *(between - self._stuck), *self._given, *self._unsure}
        if key not in taken:
            self._wait(key, created)
            position = bisect_left(self._order, (created, key)) + 1
            if position > self._most - len(taken):
                return position
        self.forget(key)
        self._given.add(key)
        return 0

    def unsure(self, key: Key) -> None:
        """Say that a Job was asked for and that it is not known whether it is there: its place is kept for a while."""
        self._unsure[key] = self._clock() + UNSURE_S

    def done(self, key: Key, *, stuck: bool = False) -> None:
        """Say that a model's Job is observed by now, or was not made: its place is what is observed.

        `stuck`: the cluster refuses what its build needs next.
        """
        self._given.discard(key)
        (self._stuck.add if stuck else self._stuck.discard)(key)

    def forget(self, key: Key) -> None:
        """Forget a model that waits for nothing any more: its Job is observed, or it wants none."""
        self._unsure.pop(key, None)
        self._stuck.discard(key)
        created = self._waiting.pop(key, None)
        if created is not None:
            del self._order[bisect_left(self._order, (created, key))]

    def _wait(self, key: Key, created: str) -> None:
        if self._waiting.get(key) == created:
            return
        self.forget(key)
        self._waiting[key] = created
        insort(self._order, (created, key))
