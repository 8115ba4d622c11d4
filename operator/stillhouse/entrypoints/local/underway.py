"""What is said of a model that is wanted while its build still goes on."""

from __future__ import annotations

from stillhouse.clients.store.local import LocalStore

__all__ = ["follow"]


def follow(store: LocalStore, name: str) -> str:
    """Return who builds or starts a model and how to see how far that is, "" when nobody does."""
    builder = store.builder(name)
    return f"process {builder} builds or starts it; still status {name} shows how far it is" if builder else ""
