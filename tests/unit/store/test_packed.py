"""Objects at rest: packed where it pays, unpacked once, the digest always that of the plain bytes, damage found and named."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest
from tests.support.stores import key, put, receipt_of, state_of

from stillhouse.clients.store import zstd
from stillhouse.clients.store.gc import collect
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.objects import MANIFEST
from stillhouse.errors import StoreError


def weights(count: int = 400_000) -> bytes:
    draw = random.Random(3)
    return struct.pack(f"<{count}f", *(draw.gauss(0, 0.05) for _ in range(count)))


WEIGHTS = weights()
PACKED = "model.safetensors" + zstd.SUFFIX
FILES = {"model.safetensors": WEIGHTS, "deep/config.json": b"{}", "tokenizer.json": b'["a token", "another"]' * 5000}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def resting(store: LocalStore) -> str:
    """A packed object's digest."""
    digest = put(store, FILES, "torch-model")
    assert store.objects.pack(digest) > 0
    return digest


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def again(store: LocalStore) -> LocalStore:
    """The store as another process has it, which has verified nothing yet."""
    return LocalStore(store.root)


def test_an_object_at_rest_is_smaller_and_there(store: LocalStore, resting: str) -> None:
    objects = again(store).objects
    assert not objects.path(resting).exists()
    assert objects.digests() == [resting]
    assert objects.look(resting) == objects.check(resting) == ""
    on_disk = sum(path.stat().st_size for path in objects.packed.path(resting).rglob("*") if path.is_file())
    assert objects.size(resting) <= on_disk < 0.9 * sum(map(len, FILES.values()))
    assert sorted(contents(objects.packed.path(resting))) == [
        "deep/config.json",
        MANIFEST,
        "model.safetensors" + zstd.SUFFIX,
        "tokenizer.json" + zstd.SUFFIX,
    ]


def test_whoever_opens_it_has_the_plain_bytes_once(store: LocalStore, resting: str) -> None:
    told: list[tuple[int, int]] = []
    folder = again(store).objects.opened(resting, lambda done, total: told.append((done, total)))
    found = contents(folder)
    assert {name: found[name] for name in FILES} == FILES and set(found) == {*FILES, MANIFEST}
    assert again(store).objects.check(resting, full=True) == ""
    assert told[-1] == (sum(map(len, FILES.values())),) * 2
    born = (folder / "model.safetensors").stat().st_ino
    assert (again(store).objects.opened(resting) / "model.safetensors").stat().st_ino == born
    assert all(path.stat().st_mode & 0o222 == 0 for path in folder.rglob("*") if path.is_file())


def test_the_copy_goes_again_without_being_packed_anew(store: LocalStore, resting: str) -> None:
    objects = again(store).objects
    born = (objects.packed.path(resting) / MANIFEST).stat().st_ino
    both = objects.size(resting)
    objects.opened(resting)
    assert objects.size(resting) > both
    assert objects.pack(resting) > 0
    assert not objects.path(resting).exists()
    assert (objects.packed.path(resting) / MANIFEST).stat().st_ino == born


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"data.parquet": random.Random(4).randbytes(2 << 20)}, "it does not get smaller"),
        ({"measurement.json": b"[1, 2, 3]" * 100}, "it is small"),
        ({"a": random.Random(4).randbytes(2 << 20), "b": b"x" * 100_000}, "a twentieth is gained"),
    ],
)
def test_what_does_not_pay_stays_plain(store: LocalStore, files: dict[str, bytes], why: str) -> None:
    digest = put(store, files)
    assert store.objects.pack(digest) == 0, why
    assert store.objects.path(digest).is_dir()
    assert store.objects.packed.digests() == []


def test_what_another_object_links_to_stays_plain(store: LocalStore, tmp_path: Path) -> None:
    digest = put(store, FILES, "onnx-model")
    os.link(store.objects.path(digest) / "model.safetensors", tmp_path / "the revision's")
    assert store.objects.pack(digest) == 0
    assert store.objects.path(digest).is_dir()


def test_a_damaged_object_is_not_packed(store: LocalStore) -> None:
    digest = put(store, FILES)
    file = store.objects.path(digest) / "model.safetensors"
    file.chmod(0o644)
    file.write_bytes(WEIGHTS[:-4] + b"evil")
    assert again(store).objects.pack(digest) == 0
    assert store.objects.packed.digests() == []
    assert "does not match" in again(store).objects.check(digest)


def flip(path: Path, at: int) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said", "seen_by_sizes"),
    [
        (lambda folder: flip(folder / PACKED, 5000), "model.safetensors.still.zst: the block at", False),
        (lambda folder: flip(folder / PACKED, 0), "model.safetensors.still.zst: there is no", True),
        (lambda folder: flip(folder / "deep/config.json", 0), "deep/config.json does not match", False),
        (lambda folder: os.truncate(folder / PACKED, 9000), "ends within a block", True),
        (lambda folder: (folder / ("tokenizer.json" + zstd.SUFFIX)).unlink(), "tokenizer.json: No such file", True),
        (lambda folder: (folder / MANIFEST).unlink(), f"{MANIFEST} is missing", True),
    ],
)  # fmt: skip
def test_damage_is_found_and_named(store: LocalStore, resting: str, damage: object, said: str, seen_by_sizes: bool) -> None:
    for path in store.objects.packed.path(resting).rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    damage(store.objects.packed.path(resting))  # type: ignore[operator]
    objects = again(store).objects
    assert said in objects.check(resting)
    assert (objects.look(resting) != "") == seen_by_sizes
    with pytest.raises(StoreError) as raised:
        objects.opened(resting)
    named = next((name for name in ("deep/config.json", "tokenizer.json", MANIFEST) if name in said), PACKED)
    assert named in raised.value.problem.message
    assert not objects.path(resting).exists()
    assert [path for path in store.tmp.iterdir() if path.name.startswith("out-")] == []


def test_another_objects_files_do_not_pass_for_it(store: LocalStore, resting: str) -> None:
    other = put(store, {**FILES, "deep/config.json": b"[]"}, "torch-model")
    assert store.objects.pack(other) > 0
    packed = store.objects.packed
    packed.drop(resting)
    packed.path(other).rename(packed.path(resting))
    assert "does not belong" in again(store).objects.check(resting)


def test_it_is_dropped_in_both_forms(store: LocalStore, resting: str) -> None:
    store.objects.opened(resting)
    store.objects.drop(resting)
    assert store.objects.digests() == []
    assert store.objects.size(resting) == 0


def test_a_step_whose_object_rests_is_done(store: LocalStore, resting: str) -> None:
    store.finish(receipt_of("student", resting))
    assert again(store).done(key("student")) is not None
    flip(store.objects.packed.path(resting) / ("model.safetensors" + zstd.SUFFIX), 5000)
    assert again(store).done(key("student")) is None
    assert again(store).done(key("student"), contents=False) is not None


# garbage collection -----------------------------------------------------------------------------------------------------


@pytest.fixture
def full(store: LocalStore) -> dict[str, str]:
    """What steps need, what serves, what nobody needs, and what does not pay."""
    digests = {
        "student": put(store, FILES, "torch-model"),
        "served": put(store, {**FILES, "receipt.json": b"{}"}, "revision"),
        "pinned": put(store, {**FILES, "pinned": b""}, "onnx-model"),
        "loose": put(store, {**FILES, "loose": b""}, "onnx-model"),
        "rows": put(store, {"data.parquet": random.Random(5).randbytes(2 << 20)}, "dataset"),
    }
    for name, digest in digests.items():
        store.finish(receipt_of(name, digest))
    return digests


def needed(full: dict[str, str]) -> tuple[list[str], list[str]]:
    return [key(name) for name in full if name != "loose"], [full["pinned"]]


def test_what_only_a_step_needs_is_put_to_rest(store: LocalStore, full: dict[str, str]) -> None:
    before = {digest: store.objects.size(digest) for digest in full.values()}
    freed = collect(store, lambda: needed(full), rest_s=0.0)
    assert freed.objects == (full["loose"],) and freed.packed == (full["student"],)
    assert freed.saved == before[full["student"]] - store.objects.size(full["student"]) > 0
    assert [digest for digest in full.values() if store.objects.path(digest).is_dir()] == [
        full[name] for name in ("served", "pinned", "rows")
    ]
    once_more = collect(again(store), lambda: needed(full), rest_s=0.0)
    assert (once_more.objects, once_more.packed, once_more.saved) == ((), (), 0)


def test_what_rests_is_freed_as_any_other(store: LocalStore, full: dict[str, str]) -> None:
    collect(store, lambda: needed(full), rest_s=0.0)
    size = store.objects.size(full["student"])
    freed = collect(again(store), lambda: ([], []), rest_s=0.0)
    assert full["student"] in freed.objects and freed.bytes > size
    assert again(store).objects.digests() == []


def test_a_dry_run_tells_what_would_rest_and_changes_nothing(store: LocalStore, full: dict[str, str]) -> None:
    before = state_of(store)
    freed = collect(store, lambda: needed(full), rest_s=0.0, dry_run=True)
    assert freed.packed == (full["student"],) and freed.saved == 0
    assert state_of(store) == before


def test_what_was_used_lately_stays_plain(store: LocalStore, full: dict[str, str]) -> None:
    assert collect(store, lambda: needed(full), rest_s=3600.0).packed == ()
    os.utime(store.objects.path(full["student"]), (0, 0))
    assert collect(store, lambda: needed(full), rest_s=3600.0).packed == (full["student"],)
    store.objects.opened(full["student"])
    assert collect(store, lambda: needed(full), rest_s=3600.0).packed == (), "it was used a moment ago"


def test_without_a_time_nothing_is_packed(store: LocalStore, full: dict[str, str]) -> None:
    assert collect(store, lambda: needed(full)).packed == ()
    assert store.objects.packed.digests() == []
