"""Plans of small passes run in a store, and what a test does to their results."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.passes import Events, make_runner

from stillhouse.clients.store import packed
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.planning.plan import Plan

__all__ = ["ALL", "damage", "put_to_rest", "run", "text_of"]

ALL = ["train/a", "train/b", "train/c", "train/d"]


def run(root: Path, plan: Plan, events: Events | None = None) -> dict[str, Receipt]:
    """Run a plan in the store at `root`; the receipts by step."""
    return make_runner(root, events).run(plan)


def damage(root: Path, plan: Plan, step: str) -> None:
    """Change what a step made, behind the store's back."""
    store = LocalStore(root)
    receipt = store.receipt(plan.step(step).key)
    assert receipt is not None
    path = store.objects.path(receipt.artifact) / "text"
    path.chmod(0o644)
    path.write_text(path.read_text().swapcase())


def text_of(root: Path, plan: Plan, step: str) -> str:
    """Return what a step made."""
    return (make_runner(root).artifact(plan.step(step)).path / "text").read_text()


def put_to_rest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack every object, as a collection does with what is worth it: these have a few bytes."""
    monkeypatch.setattr(packed, "WORTH", -1e9)
    monkeypatch.setattr(packed, "_SMALLEST", 0)
    objects = LocalStore(root).objects
    for digest in objects.digests():
        objects.pack(digest)
        assert not objects.path(digest).exists()
