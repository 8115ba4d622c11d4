"""Garbage collection: keeps what is named, frees the rest, touches nothing in a dry run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.support.stores import DAMAGE, key, put, receipt_of, state_of

from stillhouse.clients.store.gc import collect
from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import StoreError, UsageError


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Steps kept, loose and twin (twin shares kept's object), an object that nobody names, and leftovers."""
    store = LocalStore(tmp_path / "store")
    for step, content in (("kept", b"1"), ("loose", b"22"), ("twin", b"1")):
        store.finish(receipt_of(step, put(store, {"f": content})))
    put(store, {"f": b"nobody names this"})
    (store.scratch(key("unfinished")) / "part").write_bytes(b"x" * 100)
    (store.scratch(key("loose")) / "part").write_bytes(b"x" * 10)
    (store.tmp / "out-dead").mkdir()
    (store.tmp / "out-dead" / "half").write_bytes(b"x" * 1000)
    (store.tmp / "json-dead").write_bytes(b"x" * 7)
    (store.tmp / "link").symlink_to(tmp_path)
    (tmp_path / "precious").write_text("not the store's")
    return store


def objects(store: LocalStore, *contents: bytes) -> list[str]:
    return sorted(put(LocalStore(store.root.parent / "scratch-store"), {"f": content}) for content in contents)


def test_what_is_named_stays_and_the_rest_goes(store: LocalStore, tmp_path: Path) -> None:
    freed = collect(store, lambda: ([key("kept"), key("unfinished")], []))

    assert store.receipt_keys() == [key("kept")]
    assert store.objects.digests() == objects(store, b"1")
    assert sorted(freed.receipts) == sorted([key("loose"), key("twin")])
    assert sorted(freed.objects) == objects(store, b"22", b"nobody names this")
    assert freed.scratch == (key("loose"),)
    assert (store.root / "work" / key("unfinished") / "part").exists()
    assert list(store.tmp.iterdir()) == []
    assert freed.bytes >= 2 + len(b"nobody names this") + 10 + 1007
    assert (tmp_path / "precious").exists()


def test_an_object_named_by_itself_stays(store: LocalStore) -> None:
    loose = objects(store, b"22")
    collect(store, lambda: ([], loose))
    assert store.objects.digests() == loose
    assert store.receipt_keys() == []


def test_a_dry_run_says_the_same_and_changes_nothing(store: LocalStore) -> None:
    before = state_of(store)
    said = collect(store, lambda: ([key("kept")], []), dry_run=True)
    assert state_of(store) == before
    assert collect(store, lambda: ([key("kept")], [])) == said


def test_a_dry_run_looks_while_others_use_the_store(store: LocalStore) -> None:
    """What they write at this moment is theirs, so it does not count; nothing else is told otherwise."""
    alone = collect(store, lambda: ([key("kept")], []), dry_run=True)
    leftovers = 1000 + 7
    before = state_of(store)
    with store.using():
        beside = collect(store, lambda: ([key("kept")], []), dry_run=True)
    assert (alone.busy, beside.busy) == (False, True)
    assert (beside.receipts, beside.objects, beside.scratch) == (alone.receipts, alone.objects, alone.scratch)
    assert beside.bytes <= alone.bytes - leftovers
    assert state_of(store) == before


def test_a_second_run_finds_nothing(store: LocalStore) -> None:
    collect(store, lambda: ([key("kept")], []))
    again = collect(store, lambda: ([key("kept")], []))
    assert (again.receipts, again.objects, again.scratch, again.bytes) == ((), (), (), 0)


def test_an_empty_store_is_no_error(tmp_path: Path) -> None:
    freed = collect(LocalStore(tmp_path / "new"), lambda: ([], []))
    assert freed.bytes == 0


def test_scratch_of_a_finished_step_goes_even_when_the_step_is_kept(store: LocalStore) -> None:
    """A process killed between the receipt and the tidying leaves it."""
    (store.scratch(key("kept")) / "part").write_text("x")
    freed = collect(store, lambda: ([key("kept")], []))
    assert key("kept") in freed.scratch


def test_a_damaged_receipt_is_freed_and_its_object_too(store: LocalStore) -> None:
    store.receipt_path(key("kept")).write_text("{")
    collect(store, lambda: ([key("kept")], []))
    assert store.receipt_keys() == []
    assert store.objects.digests() == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_objects_can_be_freed(tmp_path: Path, kind: str) -> None:
    store = LocalStore(tmp_path / "store")
    DAMAGE[kind](store.objects.path(put(store)))
    collect(store, lambda: ([], []))
    assert store.objects.digests() == []
    assert list(store.tmp.iterdir()) == []


def test_it_refuses_while_the_store_is_used(store: LocalStore) -> None:
    before = state_of(store)
    with store.using(), store.using(), pytest.raises(UsageError, match="using the store") as refused:
        collect(store, lambda: ([], []))
    assert "still gc" in refused.value.problem.fix
    assert state_of(store) == before


def test_it_refuses_a_second_one(store: LocalStore) -> None:
    with store.alone(), pytest.raises(UsageError):
        collect(store, lambda: ([], []))


def test_it_needs_no_room_on_a_full_disk(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.using():
        pass  # the lock file is there already, as after any build

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        for call in ("pwrite", "mkdir", "rename", "fsync", "link", "symlink"):
            patch.setattr(os, call, full)
        collect(store, lambda: ([key("kept")], []))
    assert store.objects.digests() == objects(store, b"1")
    assert store.receipt_keys() == [key("kept")]


@pytest.mark.parametrize("text", ["", "{", "[]", "\0\0\0"])
def test_nothing_is_freed_while_it_is_unknown_what_a_model_needs(store: LocalStore, text: str) -> None:
    """A damaged state says that nothing is referred to: hours of work would go."""
    store.write_state("model", {"steps": []})
    store.write_state("sound", {"steps": []})
    (store.root / "models" / "model" / "state.json").write_text(text)
    before = state_of(store)
    with pytest.raises(StoreError) as refused:
        collect(store, lambda: ([], []))
    assert "still gc --forget model" in refused.value.problem.fix
    assert state_of(store) == before
    store.forget_model("model")
    assert collect(store, lambda: ([], [])).objects


def test_lock_files_of_steps_go(store: LocalStore) -> None:
    with store.step(key("kept")):
        pass
    assert list((store.root / "locks").glob("step-*"))
    collect(store, lambda: ([], []))
    assert not list((store.root / "locks").glob("step-*"))
