"""Objects: named by their contents, and every kind of damage is found."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.stores import DAMAGE, FILES, put

from stillhouse.clients.store import objects
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.objects import MANIFEST, digest_of
from stillhouse.errors import StoreError


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_an_object_is_named_by_its_contents(store: LocalStore) -> None:
    digest = put(store)

    assert digest.startswith("sha256:")
    folder = store.objects.path(digest)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {*FILES, MANIFEST}
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content
        assert (folder / name).stat().st_mode & 0o222 == 0
    assert store.objects.check(digest, full=True) == ""
    assert store.objects.digests() == [digest]
    assert store.objects.size(digest) == sum(map(len, FILES.values()))
    assert list(store.tmp.iterdir()) == []


def test_the_same_contents_are_one_object(store: LocalStore) -> None:
    assert put(store) == put(store)
    assert len(store.objects.digests()) == 1
    assert list(store.tmp.iterdir()) == []


@pytest.mark.parametrize(
    "files",
    [{**FILES, "model.onnx": b"other"}, {**FILES, "new": b""}, {"m.onnx": FILES["model.onnx"]}],
    ids=["contents", "more", "name"],
)
def test_other_contents_are_another_object(store: LocalStore, files: dict[str, bytes]) -> None:
    assert put(store) != put(store, files)


def test_another_kind_is_another_object(store: LocalStore) -> None:
    assert put(store) != put(store, kind="dataset")


@given(st.lists(st.tuples(st.text("ab/", min_size=1), st.text("0f"), st.integers(0, 9)), max_size=3), st.text(), st.text())
def test_digests_tell_lists_of_files_apart(files: list[tuple[str, str, int]], kind: str, other: str) -> None:
    rows = [list(entry) for entry in files]
    assert digest_of(kind, rows) == digest_of(kind, [list(entry) for entry in files])
    assert (digest_of(kind, rows) == digest_of(other, rows)) == (kind == other)
    assert digest_of(kind, rows) != digest_of(kind, [*rows, ["z", "", 0]])


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_by_another_process(store: LocalStore, kind: str) -> None:
    digest = put(store)
    DAMAGE[kind](store.objects.path(digest))

    assert LocalStore(store.root).objects.check(digest) != ""
    assert store.objects.check(digest, full=True) != ""


@pytest.mark.parametrize("kind", [kind for kind in DAMAGE if kind != "a flipped bit"])
def test_damage_that_shows_without_reading_is_found_by_the_same_process(store: LocalStore, kind: str) -> None:
    digest = put(store)
    assert store.objects.check(digest) == ""
    DAMAGE[kind](store.objects.path(digest))

    assert store.objects.check(digest) != ""


@pytest.mark.parametrize("kind", [kind for kind in DAMAGE if kind != "a flipped bit"])
def test_a_look_finds_what_names_and_sizes_tell(store: LocalStore, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put(store)
    monkeypatch.setattr(objects, "hash_file", lambda path: pytest.fail(f"it read {path.name}"))
    other = LocalStore(store.root)
    assert other.objects.look(digest) == ""
    DAMAGE[kind](store.objects.path(digest))

    assert other.objects.look(digest) != ""


def test_a_look_vouches_for_no_contents(store: LocalStore) -> None:
    """What was only looked at is read when it is used, in the same process too."""
    digest = put(store)
    DAMAGE["a flipped bit"](store.objects.path(digest))
    other = LocalStore(store.root)

    assert other.objects.look(digest) == ""
    assert other.objects.check(digest) == "model.onnx does not match its digest"


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_object_is_replaced_when_it_is_made_again(store: LocalStore, kind: str) -> None:
    digest = put(store)
    DAMAGE[kind](store.objects.path(digest))

    assert put(LocalStore(store.root)) == digest
    assert LocalStore(store.root).objects.check(digest, full=True) == ""
    assert list(store.tmp.iterdir()) == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_object_can_be_dropped(store: LocalStore, kind: str) -> None:
    digest = put(store)
    DAMAGE[kind](store.objects.path(digest))

    store.objects.drop(digest)
    assert store.objects.digests() == []
    assert not os.path.lexists(store.objects.path(digest))
    assert list(store.tmp.iterdir()) == []


def test_dropping_a_link_leaves_alone_what_it_points_to(store: LocalStore, tmp_path: Path) -> None:
    digest = put(store)
    DAMAGE["a link in the object's place"](store.objects.path(digest))
    elsewhere = store.root / "elsewhere"
    assert store.objects.path(digest).resolve() == elsewhere

    store.objects.drop(digest)
    assert (elsewhere / "model.onnx").read_bytes() == FILES["model.onnx"]


def test_dropping_what_is_not_there_is_no_error(store: LocalStore) -> None:
    store.objects.drop("sha256:" + "0" * 64)


def test_the_size_of_a_damaged_object_is_no_error(store: LocalStore) -> None:
    for kind, damage in DAMAGE.items():
        other = LocalStore(store.root.parent / kind.replace(" ", "-"))
        digest = put(other)
        damage(other.objects.path(digest))
        assert other.objects.size(digest) >= 0


def test_an_artifact_with_a_link_is_refused(store: LocalStore, tmp_path: Path) -> None:
    folder = store.objects.new_dir()
    (folder / "inner").mkdir()
    (folder / "inner" / "passwd").symlink_to("/etc/passwd")

    with pytest.raises(StoreError) as refused:
        store.objects.put(folder, "dataset")
    assert refused.value.problem.field == "inner/passwd"
    assert store.objects.digests() == []


def test_an_artifact_with_a_pipe_is_refused(store: LocalStore) -> None:
    folder = store.objects.new_dir()
    os.mkfifo(folder / "pipe")

    with pytest.raises(StoreError, match="plain files"):
        store.objects.put(folder, "dataset")


def test_an_artifact_cannot_bring_its_own_manifest(store: LocalStore) -> None:
    folder = store.objects.new_dir()
    (folder / MANIFEST).write_text("{}")

    with pytest.raises(StoreError, match="store's own"):
        store.objects.put(folder, "dataset")
    assert store.objects.digests() == []


def test_a_process_that_is_first_with_the_same_object_wins(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of two processes may give equal contents: the second rename finds the first one's object."""
    real = Path.rename
    raced: list[str] = []

    def late(self: Path, target: Path) -> Path:
        if not raced and target.parent == store.objects.root:
            raced.append("")
            raced[0] = put(LocalStore(store.root))  # the other process, between the look and the rename
        return real(self, target)

    monkeypatch.setattr(Path, "rename", late)
    digest = put(store)

    assert raced == [digest]
    assert store.objects.check(digest, full=True) == ""
    assert list(store.tmp.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "open", "mkdir", "rename"])
def test_a_full_disk_says_the_way_out_and_loses_nothing(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    kept = put(store)
    folder = store.objects.new_dir()
    (folder / "model.onnx").write_bytes(b"new")

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StoreError) as refused:
            if call == "mkdir":
                store.objects.new_dir()
            else:
                store.objects.put(folder, "onnx-model")
    assert refused.value.problem.message == "the disk is full"
    assert "still gc" in refused.value.problem.fix
    assert store.objects.digests() == [kept]
    assert LocalStore(store.root).objects.check(kept) == ""


def test_an_object_can_be_dropped_from_a_full_disk(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`still gc` is the way out of a full disk: it must not need room itself."""
    digest = put(store)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        for call in ("mkdir", "rename", "fsync"):
            patch.setattr(os, call, full)
        store.objects.drop(digest)
    assert store.objects.digests() == []


def test_contents_are_on_disk_before_they_have_a_name(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the rename must not leave a named object with holes: files, folders, then the name, then its folder."""
    events: list[tuple[str, int]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(handle: int) -> None:
        real_fsync(handle)
        events.append(("fsync", os.fstat(handle).st_ino))

    def rename(source: Path, target: Path) -> None:
        real_rename(source, target)
        events.append(("rename", os.stat(target).st_ino))

    store.objects.root.mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    digest = put(store)

    folder = store.objects.path(digest)
    named = events.index(("rename", folder.stat().st_ino))
    for path in [folder, *folder.rglob("*")]:
        assert ("fsync", path.stat().st_ino) in events[:named], path
    assert ("fsync", store.objects.root.stat().st_ino) in events[named:]


def test_reading_and_storing_tell_how_far_they_are(store: LocalStore) -> None:
    total = (3 << 20) + 7
    folder = store.objects.new_dir()
    (folder / "a").write_bytes(bytes(7))
    (folder / "b").write_bytes(bytes(3 << 20))
    stored: list[tuple[int, int]] = []
    digest, _ = store.objects.put(folder, "dataset", lambda done, every: stored.append((done, every)))
    read: list[tuple[int, int]] = []
    assert store.objects.check(digest, full=True, report=lambda done, every: read.append((done, every))) == ""
    assert stored == read == [(7, total), *((7 + (blocks << 20), total) for blocks in (1, 2, 3))]
