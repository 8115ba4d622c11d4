"""An artifact is served only once every byte of it has been held against its digest."""

from __future__ import annotations

from pathlib import Path

from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import StoreError

__all__ = ["verified"]


def verified(store: LocalStore, digest: str, model: str) -> Path:
    """Return an artifact's folder.

    Raises:
        StoreError: it is not there, or its contents do not match its digest.
    """
    problem = store.objects.check(digest)
    if problem:
        raise StoreError(
            f"the artifact cannot be served: {problem}",
            field=digest,
            found=str(store.root),
            fix=f'build it again: kubectl annotate dm {model} --overwrite stillhouse.io/rebuild="$(date)"',
        )
    return store.objects.opened(digest)
