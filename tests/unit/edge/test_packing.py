"""A file of `still pack` comes from elsewhere: whatever is wrong with it is told, and nothing of it is used."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_objects import complete
from tests.support.stores import put

from stillhouse.api.load import parse
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge.packing import is_packed, pack, target_of, unpack
from stillhouse.errors import DataError, StillhouseError, UsageError

DIGEST = "sha256:" + "a" * 64
INSIDE = f"objects/{DIGEST[7:]}/"
BIG = 8 << 20


def good() -> dict[str, Any]:
    name = parse(complete("class")).metadata.name
    revision = {"digest": DIGEST, "precision": "int8"}
    return {"version": 1, "name": name, "objects": [{"digest": DIGEST, "kind": "model"}], "revision": revision}


def write(path: Path, contents: bytes, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        text = json.dumps(complete("class")).encode()
        for name, content in (("contents.json", contents), ("distilledmodel.yaml", text), *members):
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "contents",
    [
        b"[1]", b'"x"', b"null", b"[" * 100_000, {"objects": None}, {"objects": ["x"]}, {"revision": []},
        {"objects": [{"digest": 5, "kind": "m"}, {"digest": DIGEST, "kind": "m"}]},
        {"objects": [{"digest": "../../elsewhere", "kind": "m"}, {"digest": DIGEST, "kind": "m"}]},
    ],
)  # fmt: skip
def test_a_list_of_contents_that_is_none_is_told(tmp_path: Path, contents: Any) -> None:
    told = contents if isinstance(contents, bytes) else json.dumps({**good(), **contents}).encode()
    with pytest.raises(DataError, match="no file of still pack"):
        unpack(LocalStore(tmp_path / "home"), write(tmp_path / "x.still.tar", told))
    assert not [each for each in (tmp_path / "home").rglob("*") if each.is_file()]


@pytest.mark.parametrize("names", [("a", "a/b"), ("../../evil",), ("manifest.json",), ("x" * 300,)])
def test_members_that_do_not_fit_are_told(tmp_path: Path, names: tuple[str, ...]) -> None:
    file = write(tmp_path / "x.still.tar", json.dumps(good()).encode(), *((INSIDE + name, b"x") for name in names))
    with pytest.raises(StillhouseError):
        unpack(LocalStore(tmp_path / "home"), file)
    assert not list((tmp_path / "home" / "tmp").iterdir())


def test_a_small_file_does_not_fill_the_disk(tmp_path: Path) -> None:
    """A sparse member of a few bytes that says it has many."""
    about = tarfile.TarInfo(f"{INSIDE}GNUSparseFile.0/big")
    about.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": f"{INSIDE}big", "GNU.sparse.size": str(BIG),
        "GNU.sparse.map": f"{BIG},0", "GNU.sparse.numblocks": "1",
    }  # fmt: skip
    file = write(tmp_path / "x.still.tar", json.dumps(good()).encode())
    with tarfile.open(file, "a", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(about)
    assert file.stat().st_size < BIG / 100
    with pytest.raises(DataError, match="plain files only"):
        unpack(LocalStore(tmp_path / "home"), file)


# --- what is packed, and where it goes ---------------------------------------------------------------------------------

TINY: dict[str, Any] = {
    "apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": "m"},
    "spec": {"source": {"uri": "models:x", "task": "text-classification"}},
}  # fmt: skip
CASCADE = {"larger": {"model": "large"}, "data": {"uri": "data:t"}, "escalationBudget": "20%"}


def built(home: Path, **edge: Any) -> tuple[LocalStore, Path]:
    """A store in which a model was built of a file beside it."""
    store, file = LocalStore(home / "store"), home / "m.yaml"
    home.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**TINY, "spec": {**TINY["spec"], **edge}}))
    revision = {"digest": put(store), "precision": "int8", "cascade": None, "index": "sha256:" + "b" * 64}
    store.write_state("m", {"name": "m", "file": str(file), "steps": [{"id": "gate/gate"}], "revision": revision})
    return store, file


def test_it_goes_into_a_folder_or_to_a_file_that_says_what_it_is(tmp_path: Path) -> None:
    assert target_of("m", None) == Path("m.still.tar")
    assert target_of("m", tmp_path) == tmp_path / "m.still.tar"
    assert target_of("m", tmp_path / "other.still.tar") == tmp_path / "other.still.tar"


@pytest.mark.parametrize(("out", "fix"), [("x.tar", "x.still.tar"), ("x", "x.still.tar"), (".still.tar", "m.still.tar")])
def test_another_ending_is_refused_with_the_right_one(tmp_path: Path, out: str, fix: str) -> None:
    with pytest.raises(UsageError) as told:
        target_of("m", tmp_path / out)
    assert told.value.problem.fix == f"--out {tmp_path / fix}"
    with pytest.raises(UsageError, match="no such folder"):
        target_of("m", tmp_path / "nowhere" / "m.still.tar")


def test_a_file_that_was_renamed_is_known_by_its_beginning(tmp_path: Path) -> None:
    store, file = built(tmp_path, edge={})
    pack(store, "m", tmp_path / "m.still.tar")
    renamed = (tmp_path / "m.still.tar").rename(tmp_path / "renamed")
    assert is_packed(renamed)
    assert not is_packed(file) and not is_packed(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("edge", "says"),
    [
        ({}, "has no spec.edge"),
        ({"edge": {}}, ""),
        ({"edge": {"cascade": CASCADE}}, "asks for spec.edge.cascade, and what was built"),
    ],
)
def test_what_the_other_machine_would_refuse_is_told_here(tmp_path: Path, edge: dict[str, Any], says: str) -> None:
    store, file = built(tmp_path, **edge)
    _, remarks = pack(store, "m", tmp_path / "m.still.tar")
    assert len(remarks) == bool(says)
    assert all(says in each and str(file) in each for each in remarks)


def test_a_cascade_that_the_file_no_longer_asks_for_is_told(tmp_path: Path) -> None:
    store, _ = built(tmp_path, edge={})
    state = store.state("m")
    state["revision"]["cascade"] = state["revision"]["digest"]
    store.write_state("m", state)
    (remark,) = pack(store, "m", tmp_path / "m.still.tar")[1]
    assert "what was built has a cascade" in remark


def test_where_it_was_built_its_own_file_and_index_stay(tmp_path: Path) -> None:
    store, _ = built(tmp_path / "a", edge={})
    pack(store, "m", tmp_path / "m.still.tar")
    before = store.state("m")
    unpack(store, tmp_path / "m.still.tar")
    assert store.state("m") == before

    elsewhere = LocalStore(tmp_path / "b")
    target = unpack(elsewhere, tmp_path / "m.still.tar")
    assert elsewhere.state("m")["file"] == str(target)


def test_another_revision_than_the_one_built_here_keeps_the_file_for_a_rebuild(tmp_path: Path) -> None:
    store, _ = built(tmp_path / "a", edge={})
    pack(store, "m", tmp_path / "m.still.tar")
    here, file = built(tmp_path / "b")
    state = here.state("m")
    state["revision"]["digest"] = "sha256:" + "c" * 64
    here.write_state("m", state)
    target = unpack(here, tmp_path / "m.still.tar")
    assert here.state("m")["file"] == str(file)
    assert [each["digest"] for each in here.state("m")["history"]] == ["sha256:" + "c" * 64]
    _, remarks = pack(here, "m", tmp_path / "again.still.tar")
    assert not remarks, f"packed again with its own file, {target}"
