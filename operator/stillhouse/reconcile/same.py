"""Whether an object is already what we want: pure functions over plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillhouse.digests import content_hash
from stillhouse.resources.labels import APPLIED

__all__ = ["differences", "marked", "patch_of", "same"]

_WHOLE = ("selector", "labelSelector", "podSelector", "namespaceSelector")
"""Mappings that count as one value: a label more and a selector chooses other pods."""


def marked(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the object with the annotation that tells, the next time, what we wanted of it."""
    metadata = wanted["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED: content_hash(wanted)[:32]}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


def same(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Return whether nothing must be written: every field that we want has its value in `live`.

    Since the hash of what we want is among them (`marked`), a field that we no longer want shows as well. Fields that we never
    named are not looked at.
    """
    return next(differences(wanted, live), None) is None


def differences(wanted: Any, live: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (JSON pointer, wanted value) of every smallest place that differs; a list of another length is one place."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            # An empty mapping or list may come back as nothing at all.
            if wanted or live is not None:
                yield path, wanted
            return
        if path.rpartition("/")[2] in _WHOLE and _keys(wanted) != _keys(live):
            yield path, wanted
            return
        for name, value in wanted.items():
            yield from differences(value, live.get(name), f"{path}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(wanted, list | tuple):
        if isinstance(live, list) and len(live) == len(wanted):
            for position, (one, other) in enumerate(zip(wanted, live, strict=True)):
                yield from differences(one, other, f"{path}/{position}")
        elif wanted or live is not None:
            yield path, wanted
    elif not _equal(wanted, live):
        yield path, wanted


def _keys(value: Any) -> Any:
    return {name: _keys(inner) for name, inner in value.items()} if isinstance(value, Mapping) else None


def _equal(wanted: Any, live: Any) -> bool:
    if live is None:
        return wanted in (None, False, 0, "")  # left out where it is the type's zero
    if isinstance(wanted, bool) or isinstance(live, bool):
        return wanted is live
    return bool(wanted == live)


def patch_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes of one what the other is: what is no longer there is named, at every depth."""
    gone: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    inner = {
        name: patch_of(before[name], value)
        for name, value in after.items()
        if isinstance(value, Mapping) and isinstance(before.get(name), Mapping)
    }
    return {**gone, **after, **inner}
