from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from tests.support.refusals import refuse
from tests.support.source_folders import raised

from stillhouse.clients.sources import DigestCache, absolute, digest_of, resolve
from stillhouse.clients.sources import digest as digest_module
from stillhouse.clients.sources.hub import parse_hub_uri
from stillhouse.clients.sources.resolve import pushed_folder
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


def test_schemes_that_cannot_be_had_here_say_the_way_out(tmp_path: Path) -> None:
    assert "AWS_ENDPOINT_URL" in raised(NotAvailable, lambda: resolve("gs://b/x", base=tmp_path, bindings={}))
    assert "still push" in raised(NotAvailable, lambda: resolve("pvc://claim/x", base=tmp_path, bindings={}))


def test_what_was_pushed_is_held_to_its_digest(model: Path, tmp_path: Path) -> None:
    found = resolve(f"file://{model}", base=tmp_path, bindings={})
    pushed = tmp_path / pushed_folder(found.digest)
    shutil.copytree(model, pushed)
    (pushed / "data.csv").write_text("text\na\n")
    raised(SourceError, lambda: resolve(f"file://{pushed}", base=tmp_path, bindings={}))
    (pushed / "data.csv").unlink()
    assert resolve(f"file://{pushed}/", base=tmp_path, bindings={}).digest == found.digest
    alone = digest_of(tmp_path / "models" / "minilm" / "config.json")
    single = tmp_path / pushed_folder(alone) / "config.json"
    single.parent.mkdir()
    single.write_text("{}")
    assert resolve(f"file://{single}", base=tmp_path, bindings={}).digest == alone
    single.write_text("{ }")
    assert "mends what differs" in raised(SourceError, lambda: resolve(f"file://{single}", base=tmp_path, bindings={}))


def test_unknown_scheme_suggests_the_near_one(tmp_path: Path) -> None:
    assert "did you mean file?" in raised(SourceError, lambda: resolve("fil://x", base=tmp_path, bindings={}))


def test_missing_path_names_what_is_there(model: Path, tmp_path: Path) -> None:
    text = raised(SourceError, lambda: resolve("file://./models/minilmm", base=tmp_path, bindings={}))
    assert "did you mean minilm?" in text
    text = raised(SourceError, lambda: resolve("file://./modells/minilm/deep", base=tmp_path, bindings={}))
    assert "did you mean models?" in text


def test_what_a_script_beside_the_resource_makes_is_told_with_the_script(tmp_path: Path) -> None:
    (tmp_path / "make_teacher.py").write_text('OUT = HERE / "teacher"')
    (tmp_path / "build_data.py").write_text("write(HERE / 'data' / f'{split}.parquet')")
    (tmp_path / "students.py").write_text("")
    for uri, script in (("file://teacher", "make_teacher.py"), ("file://data/train.parquet", "build_data.py")):
        text = raised(SourceError, lambda uri=uri: resolve(uri, base=tmp_path, bindings={}))
        assert f"run: python {tmp_path / script}, which makes it" in text
    text = raised(SourceError, lambda: resolve("file://student", base=tmp_path, bindings={}))
    assert "did you mean" not in text, "a script is no model"


def test_rows_are_not_taken_from_the_hub_by_another_name_either(tmp_path: Path) -> None:
    text = raised(SourceError, lambda: resolve("data:a", base=tmp_path, bindings={"data:a": "hf://o/m"}, data=True))
    assert "data:a: hf://o/m" in text
    assert "hf://," not in raised(NotAvailable, lambda: resolve("gs://b/x", base=tmp_path, bindings={}, data=True))


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


def test_a_file_rewritten_in_place_is_seen_although_its_time_was_put_back(model: Path, tmp_path: Path) -> None:
    weights, cache = model / "model.safetensors", tmp_path / "cache"
    first, before = digest_of(model, DigestCache(cache)), weights.stat()
    time.sleep(0.02)  # a clock tick of the file system, by which it tells two changes apart
    weights.write_bytes(weights.read_bytes().swapcase())
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = weights.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert digest_of(model, DigestCache(cache)) != first


def test_what_an_earlier_version_remembered_is_not_believed(model: Path, tmp_path: Path) -> None:
    want, cache = digest_of(model), tmp_path / "cache"
    cache.mkdir()
    known = {}
    for file in model.iterdir():
        state = file.stat()
        known[str(file.resolve())] = [state.st_size, state.st_mtime_ns, state.st_ino, "0" * 64]
    (cache / "digests.json").write_text(json.dumps(known))
    assert digest_of(model, DigestCache(cache)) == want


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


# what the system says --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri", ["file://./models/minilm", "models/minilm/config.json", "models:minilm", "package://shut_package/m"]
)
def test_a_folder_that_may_not_be_entered_is_the_users_to_open(
    uri: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = (tmp_path / "models", tmp_path / "shut_package")
    shutil.copytree(model, shut[1] / "m")
    monkeypatch.syspath_prepend(str(tmp_path))
    bindings = {"models:minilm": f"file://{model}"}
    refuse(monkeypatch, Path, "stat", lambda file: any(folder in file.parents for folder in shut))
    text = raised(SourceError, lambda: resolve(uri, base=tmp_path, bindings=bindings))
    assert text.startswith("uri: the source cannot be read")
    assert "Permission denied" in text
    assert "ask its owner for the right to read it" in text


def test_a_file_that_may_not_be_read_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, io, "open", lambda file: str(file).endswith("config.json"))
    assert "config.json" in raised(SourceError, lambda: resolve(str(model), base=tmp_path, bindings={}))


@pytest.mark.parametrize("rest", ["x" * 300, f"models/{'x' * 300}/deep", "x/" * 3000, "\0", "a\0/b"])
@pytest.mark.parametrize("scheme", ["file://./", "package://json/"])
def test_under_a_name_that_no_file_can_have_there_is_nothing(scheme: str, rest: str, model: Path, tmp_path: Path) -> None:
    assert "nothing is there" in raised(SourceError, lambda: resolve(scheme + rest, base=tmp_path, bindings={}))


@pytest.mark.parametrize("uri", ["file://~nobody-of-this-name/m", "~nobody-of-this-name/m"])
def test_a_home_that_is_not_known(uri: str, tmp_path: Path) -> None:
    text = raised(SourceError, lambda: resolve(uri, base=tmp_path, bindings={}))
    assert "the home folder of this user is not known" in text


def test_a_link_in_a_circle_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "round_package").mkdir()
    (tmp_path / "round_package" / "m").symlink_to("m")
    monkeypatch.syspath_prepend(str(tmp_path))
    for uri in ("file://./round_package/m", "package://round_package/m"):
        raised(SourceError, lambda uri=uri: resolve(uri, base=tmp_path, bindings={}))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["caf\udce9.json", "caf\udce9.jsonl", "caf\udce9/config.json"])
def test_a_name_that_is_no_utf8(name: str, model: Path, tmp_path: Path) -> None:
    before = digest_of(model)
    path = model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    if name == "caf\udce9.json":
        assert digest_of(model) == before, "a file that is not used may have any name"
    else:
        text = raised(SourceError, lambda: resolve(str(model), base=tmp_path, bindings={}))
        assert "the name of a file or folder is not UTF-8" in text
        assert r"caf\udce9" in text
    quoted = f"{model}/{name}".replace("\udce9", "%E9")
    assert "is not UTF-8" in raised(SourceError, lambda: resolve(f"file://{quoted}", base=tmp_path, bindings={}))


# relative to a settings file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "means"),
    [
        ("file://./m", "/a 50%25 off/m"),
        ("m", "/a 50%25 off/m"),
        ("file://./my%20model", "/a 50%25 off/my model"),
        ("file:///elsewhere/m%20n", "/elsewhere/m n"),
        ("a:b", "/a 50%25 off/a:b"),
    ],
)
def test_a_relative_path_starts_from_its_folder_whatever_that_is_called(uri: str, means: str, tmp_path: Path) -> None:
    bound = absolute(uri, Path("/a 50%25 off"))
    assert bound.startswith("file:///")
    text = raised(SourceError, lambda: resolve(bound, base=tmp_path, bindings={}))
    assert f"({means})" in text


@pytest.mark.parametrize(
    "uri", ["file://~/m", "~/m", "file://~someone/m", "package://p/m", "hf://o/m@main", "models:x", "\ud800"]
)
def test_what_starts_elsewhere_stays_as_it_is(uri: str) -> None:
    assert absolute(uri, Path("/a")) == uri


def test_a_home_folder_is_found_from_everywhere(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "models"))
    model.rename(tmp_path / "models" / "my model")
    for uri in ("file://~/my%20model", "~/my%20model", "~/my model"):
        found = resolve("models:x", base=tmp_path, bindings={"models:x": absolute(uri, tmp_path)})
        assert found.path == tmp_path / "models" / "my model"
