"""Versions of objects: what a list or a watch tells is news or not, whichever comes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

__all__ = ["Lately", "version_of"]

K = TypeVar("K", bound=Hashable)


def version_of(metadata: Mapping[str, Any]) -> int:
    """Return the version that the metadata of an object or a list name, 0 where they name none."""
    text = str(metadata.get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0


class Lately(Generic[K]):
    """What happened lately, for as long as news of it may be under way: a version of each of the last few thousand things."""

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
