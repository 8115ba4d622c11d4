"""Receipts: written whole or not at all; a damaged one counts as not written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.stores import digest, key, receipt_of

from stillhouse.clients.store.files import disk_full, read_json, write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.digests import canonical_json
from stillhouse.errors import StoreError, UsageError


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    facts=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON, max_size=4),
    seconds=st.floats(0, 1e6),
)
def test_a_receipt_survives_writing_and_reading(facts: dict[str, object], seconds: float) -> None:
    receipt = receipt_of("train/a", digest("a"), facts=facts, seconds=seconds)
    assert Receipt.from_json(json.loads(json.dumps(receipt.to_json(), indent=1, sort_keys=True))) == receipt


def test_facts_with_numbers_as_keys_are_read_back(store: LocalStore) -> None:
    """JSON has strings as keys only, and sorts them otherwise than numbers."""
    receipt = receipt_of("train/a", digest("a"), facts={"lengths": {2: 1, 10: 2}, "pair": (1, 2)})
    store.finish(receipt)

    found = store.receipt(receipt.key)
    assert found is not None
    assert found.facts == {"lengths": {"2": 1, "10": 2}, "pair": [1, 2]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_facts_that_are_no_json_are_refused_and_nothing_is_written(store: LocalStore, value: object) -> None:
    receipt = receipt_of("train/a", digest("a"), facts={"loss": value})
    with pytest.raises((ValueError, TypeError)):
        store.finish(receipt)
    assert store.receipt_keys() == []
    assert store.receipt(receipt.key) is None


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _edited(**changes: object) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


def _without(name: str) -> Callable[[str], str]:
    return lambda text: json.dumps({field: value for field, value in json.loads(text).items() if field != name})


DAMAGE: dict[str, Callable[[str], str]] = {
    "cut": _cut,
    "empty": lambda text: "",
    "zeros": lambda text: "\0" * len(text),
    "a list": lambda text: "[]",
    "null": lambda text: "null",
    "deep": lambda text: "[" * 100_000,
    "a flipped figure": lambda text: text.replace("0.25", "0.26"),
    "another artifact": _edited(artifact=digest("other")),
    "a path as artifact": _edited(artifact="/etc"),
    "a number as artifact": _edited(artifact=7),
    "another format": _edited(format=2),
    "a field too many": _edited(more=1),
    "no artifact": _without("artifact"),
    "no digest": _without("digest"),
    "no facts": _without("facts"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_receipt_counts_as_not_written(store: LocalStore, kind: str) -> None:
    receipt = receipt_of("train/a", digest("a"))
    store.finish(receipt)
    path = store.receipt_path(receipt.key)
    text = path.read_text()
    assert DAMAGE[kind](text) != text
    path.write_text(DAMAGE[kind](text))

    assert store.receipt(receipt.key) is None
    store.finish(receipt)
    assert store.receipt(receipt.key) == receipt


def test_bytes_that_are_no_text_count_as_not_written(store: LocalStore) -> None:
    receipt = receipt_of("train/a", digest("a"))
    store.finish(receipt)
    store.receipt_path(receipt.key).write_bytes(b"\xff\xfe\x00")
    assert store.receipt(receipt.key) is None


def test_a_directory_in_its_place_counts_as_not_written(store: LocalStore) -> None:
    store.receipt_path(key("a")).mkdir(parents=True)
    assert store.receipt(key("a")) is None


def test_a_receipt_under_another_steps_name_counts_as_not_written(store: LocalStore) -> None:
    """A file copied to the wrong place would make another step look finished."""
    receipt = receipt_of("train/a", digest("a"))
    store.finish(receipt)
    store.receipt_path(key("b")).write_bytes(store.receipt_path(receipt.key).read_bytes())
    assert store.receipt(key("b")) is None
    assert store.receipt(receipt.key) == receipt


def test_a_forgotten_receipt_is_gone(store: LocalStore) -> None:
    receipt = receipt_of("train/a", digest("a"))
    store.finish(receipt)
    store.forget(receipt.key)
    store.forget(receipt.key)
    assert store.receipt(receipt.key) is None
    assert store.receipt_keys() == []


def test_a_write_that_fails_leaves_the_former_file_and_nothing_beside_it(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_state("model", {"generation": 1})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="disk is full"):
            store.write_state("model", {"generation": 2})
    assert store.state("model") == {"generation": 1}
    assert list(store.tmp.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_store_that_cannot_be_written_says_the_way_out(store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(StoreError) as refused:
        store.write_state("model", {})
    assert "STILLHOUSE_HOME" in refused.value.problem.fix
    assert refused.value.exit_code == 5


def test_a_receipt_is_on_disk_before_it_has_its_name(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a receipt is whole or not there; and its folder knows it once `finish` has returned."""
    events: list[tuple[str, int]] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        real_fsync(handle)
        events.append(("fsync", os.fstat(handle).st_ino))

    def replace(source: Path, target: Path) -> None:
        real_replace(source, target)
        events.append(("rename", os.stat(target).st_ino))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    receipt = receipt_of("train/a", digest("a"))
    store.finish(receipt)
    path = store.receipt_path(receipt.key)
    file, folder, root = (place.stat().st_ino for place in (path, path.parent, store.root))
    named = events.index(("rename", file))
    assert ("fsync", file) in events[:named]
    assert ("fsync", folder) in events[named:]
    assert ("fsync", root) in events  # the folder `steps` was new


def test_other_errors_of_the_disk_are_the_machine_too(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreError, match="cannot be written") as refused:
        store.write_state("model", {})
    assert refused.value.problem.found == "Input/output error"
    assert "dmesg" in refused.value.problem.fix


def test_what_cannot_be_read_is_not_taken_for_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a command run as another user would build everything anew."""
    path = tmp_path / "state.json"
    write_json(path, {"generation": 1}, tmp=tmp_path / "tmp")

    def refuse(self: Path, *_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(StoreError, match="cannot be read"):
        read_json(path)


def test_canonical_json_knows_one_form_only() -> None:
    assert canonical_json({"b": 1, "a": "ä"}) == canonical_json({"a": "ä", "b": 1}) == '{"a":"ä","b":1}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "x"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_libraries_say_in_words_that_the_disk_is_full(error: Exception, is_full: bool) -> None:
    assert disk_full(error) is is_full
    wrapped = ValueError("could not save")
    wrapped.__cause__ = error
    assert disk_full(wrapped) is is_full


def test_models_are_remembered_and_forgotten(store: LocalStore) -> None:
    assert store.model_names() == []
    assert store.state("model") == {}
    store.write_state("model", {"generation": 1})
    store.write_state("other", {})
    assert store.model_names() == ["model", "other"]
    store.forget_model("model")
    store.forget_model("model")
    assert store.model_names() == ["other"]


@pytest.mark.parametrize("change", [None, {"generation": "x"}, {"history": 7}, {"digest": "sha256:0"}, {"steps": [{"key": 1}]}])
def test_a_damaged_state_counts_as_nothing_known(change: dict[str, Any] | None, store: LocalStore) -> None:
    """Also where it is valid JSON: no command looks at every field."""
    store.write_state("model", {"generation": 1})
    path = store.root / "models" / "model" / "state.json"
    assert not store.state_damaged("model")
    path.write_text("[1]" if change is None else json.dumps({**json.loads(path.read_text()), **change}))
    assert store.state("model") == {}
    assert store.state_damaged("model")
    store.write_state("model", {"generation": 2})
    assert store.state("model") == {"generation": 2}


@pytest.mark.parametrize("name", ["..", ".", "", "../objects", "/etc", "a/b", "A", "-a", "a-", "a\n", "ä"])
def test_a_name_cannot_lead_out_of_its_place(store: LocalStore, name: str) -> None:
    store.write_state("model", {"generation": 1})
    with pytest.raises(UsageError):
        store.forget_model(name)
    with pytest.raises(UsageError):
        store.write_state(name, {})
    with pytest.raises(UsageError):
        store.run_dir(name)
    with pytest.raises(UsageError), store.model(name):
        pass
    assert store.state("model") == {"generation": 1}
