"""What `still infer` says of what it reads: an index that is checked, a file that is no image."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.stores import put

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local import asking
from stillhouse.errors import DataError
from stillhouse.inference.signature import ImageSpec


def test_checking_a_large_index_is_told_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(tmp_path)
    index = put(store, kind="index")
    monkeypatch.setattr(asking, "PATIENCE", 0.0)
    assert asking._check(LocalStore(tmp_path), index, "search") == ""  # another process, which has not read it yet
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("search: checking its index of ") == 1


def test_a_small_index_is_checked_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(tmp_path)
    index = put(store, kind="index")
    monkeypatch.setattr(asking, "PATIENCE", 60.0)
    assert asking._check(LocalStore(tmp_path), index, "search") == ""
    path = next(path for path in store.objects.path(index).rglob("*.onnx"))
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    assert "does not match its digest" in asking._check(LocalStore(tmp_path), index, "search")
    assert capsys.readouterr().err == ""


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# about")
    with pytest.raises(DataError, match="cannot be decoded") as refused:
        asking.read_images([str(path)], ImageSpec(8, 8, 1, (0.0,), (1.0,)))
    assert refused.value.problem.found == f"{path}: neither PNG nor JPEG"
