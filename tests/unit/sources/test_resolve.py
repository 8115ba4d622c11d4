from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.support.source_folders import raised

from stillhouse.clients.sources import DigestCache, digest_of, resolve
from stillhouse.clients.sources import digest as digest_module
from stillhouse.clients.sources.hub import parse_hub_uri
from stillhouse.errors import NotAvailable, SourceError, UserError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "minilm"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("about")
    return folder


def test_file_uris_of_three_forms_mean_the_same_folder(model: Path, tmp_path: Path) -> None:
    forms = (f"file://{model}", "file://./models/minilm", "models/minilm")
    found = [resolve(form, base=tmp_path, bindings={}) for form in forms]
    assert {item.path for item in found} == {model}
    assert len({item.digest for item in found}) == 1
    assert found[1].given == "file://./models/minilm"


def test_named_source_is_bound_to_its_uri(model: Path, tmp_path: Path) -> None:
    found = resolve("models:minilm", base=tmp_path, bindings={"models:minilm": "file://./models/minilm"})
    assert found.fetch() == model


def test_unbound_name_lists_the_known_ones_and_the_line_to_add(tmp_path: Path) -> None:
    text = raised(SourceError, lambda: resolve("models:minilmm", base=tmp_path, bindings={"models:minilm": "x", "data:d": "y"}))
    assert "did you mean models:minilm?" in text
    assert '"models:minilmm": "file://./PATH"' in text
    assert "data:d" not in text


def test_name_bound_to_a_name_is_refused(tmp_path: Path) -> None:
    raised(SourceError, lambda: resolve("models:a", base=tmp_path, bindings={"models:a": "models:b", "models:b": "x"}))


@pytest.mark.parametrize("uri", ["s3://bucket/x", "pvc://claim/x", "gs://b/x", "oci://r/x", "https://h/x"])
def test_schemes_of_later_versions_say_so(uri: str, tmp_path: Path) -> None:
    assert "in this version" in raised(NotAvailable, lambda: resolve(uri, base=tmp_path, bindings={}))


def test_unknown_scheme_suggests_the_near_one(tmp_path: Path) -> None:
    assert "did you mean file?" in raised(SourceError, lambda: resolve("fil://x", base=tmp_path, bindings={}))


def test_missing_path_names_what_is_there(model: Path, tmp_path: Path) -> None:
    text = raised(SourceError, lambda: resolve("file://./models/minilmm", base=tmp_path, bindings={}))
    assert "did you mean minilm?" in text
    text = raised(SourceError, lambda: resolve("file://./modells/minilm/deep", base=tmp_path, bindings={}))
    assert "did you mean models?" in text


def test_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "a_package_with_a_model"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "weights" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = resolve("package://a_package_with_a_model/weights", base=tmp_path, bindings={})
    assert found.path == package / "weights"
    assert "a_package_with_a_model" not in sys.modules
    text = raised(SourceError, lambda: resolve("package://a_package_with_a_model/weight", base=tmp_path, bindings={}))
    assert "did you mean weights?" in text


@pytest.mark.parametrize("uri", ["package://no_such_package/x", "package://../x", "package://json/../../x", "package:///x"])
def test_package_uris_that_cannot_be_used(uri: str, tmp_path: Path) -> None:
    raised(SourceError, lambda: resolve(uri, base=tmp_path, bindings={}))


@pytest.mark.parametrize("rest", ["", "a/b/c", "a/b@", "../b", "a/b@../x", "a b/c"])
def test_hub_uris_that_are_none(rest: str) -> None:
    raised(SourceError, lambda: parse_hub_uri(rest, "hf://" + rest))


def test_hub_uri_without_a_revision_means_main() -> None:
    assert parse_hub_uri("owner/model", "") == ("owner/model", "main")
    assert parse_hub_uri("owner/model@v1.0", "") == ("owner/model", "v1.0")


def test_digest_ignores_what_is_not_used_and_sees_what_is(model: Path) -> None:
    before = digest_of(model)
    (model / "README.md").write_text("something else")
    assert digest_of(model) == before
    (model / "config.json").write_text("{ }")
    changed = digest_of(model)
    assert changed != before
    (model / "config.json").rename(model / "modules.json")
    assert digest_of(model) not in {before, changed}


def test_folder_without_anything_usable_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match="nothing that can be used"):
        resolve(f"file://{tmp_path}", base=tmp_path, bindings={})


def test_unchanged_files_are_not_read_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    real = digest_module.hash_file
    monkeypatch.setattr(digest_module, "hash_file", lambda path, **_: (reads.append(path), real(path))[1])
    cache = tmp_path / "cache"
    first = digest_of(model, DigestCache(cache))
    assert len(reads) == 2
    assert digest_of(model, DigestCache(cache)) == first
    assert len(reads) == 2
    (model / "model.safetensors").write_bytes(b"WEIGHTS")
    os.utime(model / "model.safetensors", ns=(1, 1))
    assert digest_of(model, DigestCache(cache)) != first
    assert len(reads) == 3


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"/x": 3}', b"\xff"])
def test_damaged_cache_costs_a_hash_and_nothing_else(content: bytes, model: Path, tmp_path: Path) -> None:
    want = digest_of(model)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "digests.json").write_bytes(content)
    assert digest_of(model, DigestCache(cache)) == want


def test_every_source_error_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        resolve("file://./nothing", base=tmp_path, bindings={})
    assert caught.value.exit_code == 2


def test_a_large_file_tells_how_much_of_it_was_read(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").write_bytes(bytes(5 << 20))
    told: list[tuple[int, int]] = []
    cache = tmp_path / "cache"
    digest_of(model, DigestCache(cache), lambda done, total: told.append((done, total)))
    total = (5 << 20) + 2
    assert {every for _, every in told} == {total}
    assert told[-1][0] == total
    assert len({done for done, _ in told}) >= 5, "several times within one file"
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    told.clear()
    digest_of(model, DigestCache(cache), lambda done, total: told.append((done, total)))
    assert len(told) == 2, "what is remembered is not read"
