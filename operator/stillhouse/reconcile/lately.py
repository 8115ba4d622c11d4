"""What happened lately, for as long as news of it may still be under way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Lately"]

K = TypeVar("K", bound=Hashable)


class Lately(Generic[K]):
    """A version for each of the last few thousand things that were noted."""

    _MOST = 4096

    def __init__(self) -> None:
        self._known: OrderedDict[K, int] = OrderedDict()

    def note(self, each: K, version: int = 0) -> None:
        """Note a thing and its version."""
        self._known[each] = version
        if len(self._known) > self._MOST:
            self._known.popitem(last=False)

    def pop(self, each: K) -> int:
        """Forget a thing; return its version, -1 where it is not known."""
        return self._known.pop(each, -1)

    def version(self, each: K) -> int:
        """Return a thing's version, -1 where it is not known."""
        return self._known.get(each, -1)
