"""What is said of a model that is wanted while its first build still goes on."""

from __future__ import annotations

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local import servers
from stillhouse.errors import UsageError

__all__ = ["follow", "served"]


def follow(store: LocalStore, name: str) -> str:
    """Return who builds or starts a model and how to see how far that is, "" when nobody does."""
    builder = store.builder(name)
    return f"process {builder} builds or starts it; still status {name} shows how far it is" if builder else ""


def served(store: LocalStore, name: str) -> servers.Running:
    """Return the running server.

    Raises:
        UsageError: the model is not known, or has no server; whoever builds it at this moment is named.
    """
    try:
        return servers.require(store, name)
    except UsageError:
        underway = follow(store, name)
        if not underway:
            raise
        raise UsageError("the model is not being served yet", field="NAME", found=name, fix=underway) from None
