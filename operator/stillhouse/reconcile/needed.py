"""What a namespace needs of its store: what a build's first stage is told before it frees the rest."""

from __future__ import annotations

from typing import Any

from stillhouse.api.model import KIND
from stillhouse.api.revision import REVISION_KIND
from stillhouse.reconcile.cache import Cache

__all__ = ["needed"]

_ENOUGH = len("sha256:") + 16
"""Of a digest, so that no two of a store begin alike."""
_MOST_NEEDED = 2000
"""At most 40 bytes each: a variable of the environment may have 128 KiB."""


def needed(cache: Cache, namespace: str) -> dict[str, Any] | None:
    """Return a namespace's models, and the beginnings of the digests that its records name.

    None where that is more than an environment variable holds.
    """
    models = {body["metadata"]["name"] for body in cache.bodies(namespace, KIND)}
    specs = [body["spec"] for body in cache.bodies(namespace, REVISION_KIND)]
    digests = {str(spec[each])[:_ENOUGH] for spec in specs for each in ("digest", "index", "cascade", "cut") if spec.get(each)}
    if len(models) + len(digests) > _MOST_NEEDED:
        return None
    return {"namespace": namespace, "models": sorted(models), "digests": sorted(digests)}
