"""A file of `still pack` comes from elsewhere: whatever is wrong with it is told, and nothing of it is used."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_objects import complete

from stillhouse.api.load import parse
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge.packing import unpack
from stillhouse.errors import DataError, StillhouseError

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
