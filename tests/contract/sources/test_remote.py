"""`s3://` against a real S3 gateway, `oci://` against a real registry, `https://` against a server of files: fetched, pushed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.source_folders import raised
from tests.support.source_servers import (
    PASSWORD,
    USER,
    Files,
    Registry,
    Store,
    running_files,
    running_registry,
    running_store,
)

from stillhouse.clients.sources import resolve
from stillhouse.clients.sources.push.bundle import Bundle, Pushed, Target, bundle_of, compressed
from stillhouse.clients.sources.push.oci import OciTarget
from stillhouse.clients.sources.push.s3 import S3Target
from stillhouse.clients.sources.remote.access import Access, of_user
from stillhouse.clients.sources.remote.credentials import Credential
from stillhouse.clients.sources.remote.rules import Rules
from stillhouse.clients.sources.remote.s3 import connect
from stillhouse.clients.sources.remote.web import Web
from stillhouse.errors import EnvironmentProblem, SourceError, UnsafeSource

PART = 5 << 20
"""The smallest part that S3 takes."""
LARGE = 2 * PART + (1 << 20)
LOOPBACK = Rules(hosts=("http://127.0.0.1",))
"""A worker whose administrator has opened this machine."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("guarded"), users=True) as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    root = tmp_path / "site"
    root.mkdir()
    with running_files(root) as running:
        yield running


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key of whoever runs the tests is used."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "minilm"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * (LARGE // 256))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "README.md").write_text("about")
    (folder / "modeling.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "here" / "rows.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"text": "a"}\n' * 50_000)
    return path


def bundle(path: Path) -> Bundle:
    return bundle_of(path, str(path), resolve(str(path), base=path.parent, bindings={}).digest, None)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys(store: Store, **more: str) -> Credential:
    values = {"accessKeyId": store.key, "secretAccessKey": store.secret, "endpoint": store.endpoint, **more}
    return Credential("s3://models", values, "keys")


def bucket(store: Store, name: str = "models") -> Path:
    path = store.root / name
    path.mkdir(exist_ok=True)
    return path


def as_user(monkeypatch: pytest.MonkeyPatch, store: Store) -> Web:
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    return Web(of_user().rules)


def pushed(target: Target, path: Path) -> tuple[Pushed, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    found = target.push(bundle(path), lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == bundle(path).size
    return found, told


def test_a_folder_is_pushed_to_a_bucket_and_fetched_by_a_worker(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket(store)
    target = S3Target(as_user(monkeypatch, store), "s3://models/teachers", part=PART)
    first, told = pushed(target, model)
    assert first.sent == bundle(model).size
    assert len(told) > 4, "a large file goes in parts"
    again, _ = pushed(target, model)
    assert (again.uri, again.sent) == (first.uri, 0), "what is there is not sent again"
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    access = Access(LOOPBACK, (keys(store),))
    fetched: list[tuple[int, int]] = []
    found = resolve(
        first.uri,
        base=tmp_path,
        bindings={},
        cache=tmp_path / "cache",
        access=access,
        fetching=lambda *each: fetched.append(each),
    )
    assert found.digest == resolve(str(model), base=tmp_path, bindings={}).digest
    assert fetched[-1] == (bundle(model).size, bundle(model).size)
    assert set(everything(found.path)) == set(bundle(model).files)
    fetched.clear()
    resolve(
        first.uri,
        base=tmp_path,
        bindings={},
        cache=tmp_path / "cache",
        access=access,
        fetching=lambda *each: fetched.append(each),
    )
    assert fetched == [], "what is in the cache does not come again"


def test_an_interrupted_push_to_a_bucket_goes_on(store: Store, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket(store, "broken")
    target = S3Target(as_user(monkeypatch, store), "s3://broken", part=PART)
    whole = bundle(model)

    def stop(done: int, total: int) -> None:
        if done >= 2 * PART:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        target.push(whole, stop)
    rest = target.push(whole, lambda done, total: None)
    assert 0 < rest.sent <= whole.size - PART, "the parts that came are not sent again"
    assert target.push(whole, lambda done, total: None).sent == 0


def test_files_of_a_bucket(store: Store, model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket(store)
    target = S3Target(as_user(monkeypatch, store), "s3://models")
    place, _ = pushed(target, rows)
    assert place.uri.endswith("/rows.jsonl")
    graph = model / "model.onnx"
    graph.write_bytes(b"graph")
    (model / "other.onnx").write_bytes(b"another")
    with_tokenizer, _ = pushed(target, graph)
    access = Access(LOOPBACK, (keys(store),))
    found = resolve(place.uri, base=tmp_path, bindings={}, cache=tmp_path / "c", access=access, data=True)
    assert found.path.read_bytes() == rows.read_bytes()
    found = resolve(with_tokenizer.uri, base=tmp_path, bindings={}, cache=tmp_path / "c", access=access)
    assert found.digest == resolve(str(graph), base=tmp_path, bindings={}).digest
    assert found.path.name == "model.onnx"
    assert (found.path.parent / "tokenizer.json").is_file()
    assert not (found.path.parent / "other.onnx").exists()


def test_what_was_changed_in_the_bucket_is_refused(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket(store, "changed")
    place, _ = pushed(S3Target(as_user(monkeypatch, store), "s3://changed"), model)
    client = connect(Web(of_user().rules))
    there = {"Bucket": "changed", "Key": place.uri.removeprefix("s3://changed/") + "/config.json"}
    client.delete_object(**there)  # this gateway would leave the metadata to what replaces an object
    client.put_object(**there, Body=b'{"model_type": "evil"}')
    text = raised(SourceError, lambda: resolve(place.uri, base=tmp_path, bindings={}, cache=tmp_path / "c"))
    assert "not what was pushed" in text
    assert S3Target(Web(of_user().rules), "s3://changed").push(bundle(model), lambda done, total: None).sent > 0
    resolve(place.uri, base=tmp_path, bindings={}, cache=tmp_path / "c")


def test_a_worker_lends_no_rights_of_its_own(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bucket(store) / "own.csv").write_text("text\na\n")
    as_user(monkeypatch, store)
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "data": True}
    resolve("s3://models/own.csv", **ask)
    text = raised(SourceError, lambda: resolve("s3://models/own.csv", **ask, access=Access(LOOPBACK)))
    assert "not open to us" in text


def test_a_bucket_that_is_not_open(store: Store, tmp_path: Path) -> None:
    (bucket(store) / "rows.csv").write_text("text\na\n")
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c"}
    wrong = Access(LOOPBACK, (keys(store, secretAccessKey="wrong"),))
    assert "spec.credentials" in raised(SourceError, lambda: resolve("s3://models/rows.csv", **ask, access=wrong))
    lacking = Access(LOOPBACK, (Credential("s3://models", {"accessKeyId": "a"}, "keys"),))
    assert "Secret keys" in raised(SourceError, lambda: resolve("s3://models/rows.csv", **ask, access=lacking))
    well = Access(LOOPBACK, (keys(store),))
    raised(SourceError, lambda: resolve("s3://models/nothing", **ask, access=well))
    raised(SourceError, lambda: resolve("s3://models/nothing.csv", **ask, access=well))
    raised(
        SourceError,
        lambda: resolve(
            "s3://no-such-bucket/x", **ask, access=Access(LOOPBACK, (Credential("s3://no-such-bucket", keys(store).values),))
        ),
    )
    raised(SourceError, lambda: resolve("s3://M", **ask, access=well))
    closed = Access(Rules(), (keys(store),))
    raised(UnsafeSource, lambda: resolve("s3://models/rows.csv", **ask, access=closed))


@pytest.mark.parametrize("users", [False, True])
def test_a_folder_is_pushed_to_a_registry_and_fetched_by_a_worker(
    users: bool, registry: Registry, guarded: Registry, model: Path, tmp_path: Path
) -> None:
    host = (guarded if users else registry).host
    login = json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}})
    if users:
        raised(
            SourceError, lambda: OciTarget(Web(of_user().rules), f"oci://{host}/team/m").push(bundle(model), lambda *each: None)
        )
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker" / "config.json").write_text(login)
    target = OciTarget(Web(of_user().rules), f"oci://{host}/team/m", chunk=PART)
    first, told = pushed(target, model)
    assert first.sent >= bundle(model).size
    assert len(told) > 4
    assert "@sha256:" in first.uri
    again, _ = pushed(target, model)
    assert (again.uri, again.sent) == (first.uri, 0)
    tag = f"oci://{host}/team/m:stillhouse-{bundle(model).digest.removeprefix('sha256:')[:32]}"
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c"}
    given = [Credential(f"oci://{host}/team", {".dockerconfigjson": login}, "s"),
             Credential(f"oci://{host}/team", {"username": USER, "password": PASSWORD}, "s")] if users else [None]  # fmt: skip
    for each in given:
        access = Access(LOOPBACK, (each,) if each else ())
        for uri in (tag, first.uri):
            found = resolve(uri, **ask, access=access)
            assert found.uri == first.uri, "a tag is pinned to a digest"
            assert found.digest == bundle(model).digest
            assert set(everything(found.path)) == set(bundle(model).files)
    if users:
        elsewhere = Access(LOOPBACK, (Credential(f"oci://{host}/other", {"username": USER, "password": PASSWORD}, "s"),))
        raised(SourceError, lambda: resolve(tag, **ask, access=elsewhere))
        wrong = Access(LOOPBACK, (Credential(f"oci://{host}", {"username": USER, "password": "no"}, "s"),))
        raised(SourceError, lambda: resolve(tag, **ask, access=wrong))
    raised(UnsafeSource, lambda: resolve(tag, **ask, access=Access(Rules())))


def test_files_of_a_registry(registry: Registry, model: Path, rows: Path, tmp_path: Path) -> None:
    target = OciTarget(Web(of_user().rules), f"oci://{registry.host}/files")
    place, _ = pushed(target, rows)
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": Access(LOOPBACK)}
    found = resolve(place.uri, **ask, data=True)
    assert found.path.name == "rows.jsonl"
    assert found.digest == bundle(rows).digest
    raised(SourceError, lambda: resolve(f"oci://{registry.host}/files:nothing", **ask))
    raised(SourceError, lambda: resolve(f"oci://{registry.host}/UPPER", **ask))
    raised(SourceError, lambda: OciTarget(Web(of_user().rules), f"oci://{registry.host}/files:tag"))


def test_a_name_that_leads_out_of_its_folder(registry: Registry, model: Path, tmp_path: Path) -> None:
    sent = bundle(model)
    items = {"../../evil.json" if name == "config.json" else name: each for name, each in sent.files.items()}
    place = OciTarget(Web(of_user().rules), f"oci://{registry.host}/evil").push(Bundle(sent.digest, items), lambda *each: None)
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": Access(LOOPBACK)}
    raised(UnsafeSource, lambda: resolve(place.uri, **ask))


def test_a_file_by_https(files: Files, rows: Path, tmp_path: Path) -> None:
    rows.rename(files.root / "rows.jsonl")
    uri = f"{files.url}/rows.jsonl"
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": Access(LOOPBACK), "data": True}
    files.cut = 200_000
    found = resolve(uri, **ask)
    assert found.path.read_bytes() == (files.root / "rows.jsonl").read_bytes()
    assert [each[2] for each in files.asked if each[0] == "GET"] == ["", "bytes=200000-", "bytes=400000-", "bytes=600000-"]
    files.asked.clear()
    assert resolve(uri, **ask).digest == found.digest
    assert [each[0] for each in files.asked] == ["HEAD"], "it is in the cache"
    (files.root / "rows.jsonl").write_text("{}\n")
    assert resolve(uri, **ask).digest != found.digest, "another version is another file"


def test_a_download_goes_on_where_a_killed_one_was(files: Files, rows: Path, tmp_path: Path) -> None:
    rows.rename(files.root / "rows.jsonl")
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": Access(LOOPBACK), "data": True}

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    files.cut = 100_000
    with pytest.raises(KeyboardInterrupt):
        resolve(f"{files.url}/rows.jsonl", **ask, fetching=stop)
    files.cut = 0
    files.asked.clear()
    resolve(f"{files.url}/rows.jsonl", **ask)
    assert files.asked[-1] == ("GET", "/rows.jsonl", "bytes=100000-")


@pytest.mark.parametrize("lacking", ["ranges", "tags", "heads"])
def test_servers_that_know_less(lacking: str, files: Files, rows: Path, tmp_path: Path) -> None:
    rows.rename(files.root / "rows.jsonl")
    setattr(files, lacking, False)
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": Access(LOOPBACK), "data": True}
    found = resolve(f"{files.url}/rows.jsonl", **ask)
    assert found.path.read_bytes() == (files.root / "rows.jsonl").read_bytes()
    other = (files.root / "rows.jsonl").read_text().replace("a", "b")
    (files.root / "rows.jsonl").write_text(other)
    assert resolve(f"{files.url}/rows.jsonl", **ask).path.read_text() == other, (
        "of the same size, and without a version it comes anew"
    )


def test_a_connection_that_breaks_off_for_ever(files: Files, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    rows.rename(files.root / "rows.jsonl")
    files.cut, files.ranges = 1000, False
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": Access(LOOPBACK), "data": True}
    with pytest.raises(EnvironmentProblem, match="again and again"):
        resolve(f"{files.url}/rows.jsonl", **ask)


def test_a_pinned_file(files: Files, tmp_path: Path) -> None:
    (files.root / "rows.csv").write_text("text\na\n")
    pin = files.sums("rows.csv").split()[0].decode()
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": Access(LOOPBACK), "data": True}
    assert resolve(f"{files.url}/rows.csv#sha256={pin}", **ask).uri.endswith(f"#sha256={pin}")
    (files.root / "rows.csv").write_text("text\nb\n")
    raised(SourceError, lambda: resolve(f"{files.url}/rows.csv#sha256={pin}", **ask))
    raised(SourceError, lambda: resolve(f"{files.url}/rows.csv#sha256=00", **ask))


def test_a_folder_by_https_lists_its_files(files: Files, model: Path, tmp_path: Path) -> None:
    for name, content in everything(model).items():
        (files.root / name).parent.mkdir(exist_ok=True)
        (files.root / name).write_bytes(content)
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": Access(LOOPBACK)}
    assert "SHA256SUMS" in raised(SourceError, lambda: resolve(f"{files.url}/", **ask))
    files.sums(*everything(model))
    found = resolve(f"{files.url}/", **ask)
    assert found.digest == resolve(str(model), base=tmp_path, bindings={}).digest
    assert not [each for each in files.asked if each[1].endswith((".py", ".bin", ".md"))], "what is not used is not asked for"
    assert resolve(found.uri, **ask).digest == found.digest, "the pinned URI names the same"
    (files.root / "config.json").write_text('{"model_type": "evil"}')
    raised(SourceError, lambda: resolve(found.uri, **{**ask, "cache": tmp_path / "other"}))
    files.sums("config.json")
    assert "pinned" in raised(SourceError, lambda: resolve(found.uri, **ask))
    (files.root / "SHA256SUMS").write_text("0" * 64 + "  ../up.json\n")
    raised(UnsafeSource, lambda: resolve(f"{files.url}/", **ask))
    (files.root / "SHA256SUMS").write_text("nonsense\n")
    raised(SourceError, lambda: resolve(f"{files.url}/", **ask))


def test_a_token_goes_where_it_is_for(files: Files, tmp_path: Path) -> None:
    (files.root / "rows.csv").write_text("text\na\n")
    files.secret = "Bearer t"
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "data": True}
    uri = f"{files.url}/rows.csv"
    # A test's server has no TLS; a prefix of spec.credentials is https always, which the API sees to.
    resolve(uri, **ask, access=Access(LOOPBACK, (Credential(files.url, {"token": "t"}, "s"),)))
    other = Access(LOOPBACK, (Credential(f"{files.url}/private", {"token": "t"}, "s"),))
    assert "not open to us" in raised(SourceError, lambda: resolve(uri, **{**ask, "cache": tmp_path / "other"}, access=other))


def test_limits_are_known_before_the_first_byte(files: Files, rows: Path, tmp_path: Path) -> None:
    rows.rename(files.root / "rows.jsonl")
    small = Access(Rules(hosts=LOOPBACK.hosts, max_bytes=1000))
    ask = {"base": tmp_path, "bindings": {}, "cache": tmp_path / "c", "access": small}
    assert "fetching.maxSize" in raised(SourceError, lambda: resolve(f"{files.url}/rows.jsonl", **ask))
    assert [each[0] for each in files.asked] == ["HEAD"]
    raised(SourceError, lambda: resolve(f"{files.url}/model.bin", **ask))


def test_only_what_a_source_may_consist_of_is_uploaded(model: Path, tmp_path: Path) -> None:
    assert set(bundle(model).files) == {"1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"}
    outside = tmp_path / "secret.json"
    outside.write_text("{}")
    (model / "labels.json").symlink_to(outside)
    raised(UnsafeSource, lambda: bundle(model))
    (model / "labels.json").unlink()
    (model / "labels.json").symlink_to("config.json")
    assert bundle(model).files["labels.json"].size == (model / "config.json").stat().st_size
    raised(UnsafeSource, lambda: bundle(model / "pytorch_model.bin"))


# compressed on the way -------------------------------------------------------------------------------------------------


def packed(path: Path, scratch: Path) -> Bundle:
    scratch.mkdir(exist_ok=True)
    told: list[tuple[int, int]] = []
    found = compressed(bundle(path), scratch, lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1] == (bundle(path).size,) * 2
    return found


@pytest.mark.parametrize("place", ["bucket", "registry"])
def test_what_gets_smaller_travels_compressed_and_arrives_plain(
    place: str, store: Store, registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = packed(model, tmp_path / "scratch")
    assert "model.safetensors.still.zst" in sent.files and "config.json" in sent.files
    assert sent.digest == bundle(model).digest
    assert sent.size < 0.1 * bundle(model).size
    if place == "bucket":
        bucket(store)
        target: Target = S3Target(as_user(monkeypatch, store), "s3://models/packed", part=PART)
    else:
        target = OciTarget(Web(of_user().rules), f"oci://{registry.host}/packed")
    put = target.push(sent, lambda *each: None)
    assert put.sent <= sent.size + 2
    assert target.push(packed(model, tmp_path / "again"), lambda *each: None).sent == 0, "the same bytes each time"
    access = Access(LOOPBACK, (keys(store),) if place == "bucket" else ())
    found = resolve(put.uri, base=tmp_path, bindings={}, cache=tmp_path / "cache", access=access)
    assert found.digest == bundle(model).digest
    assert everything(found.path) == {name: item.path.read_bytes() for name, item in bundle(model).files.items()}


@pytest.mark.parametrize("place", ["bucket", "registry"])
def test_a_single_file_travels_compressed(
    place: str, store: Store, registry: Registry, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket(store)
    target: Target = (
        S3Target(as_user(monkeypatch, store), "s3://models/packed-rows")
        if place == "bucket"
        else OciTarget(Web(of_user().rules), f"oci://{registry.host}/packed-rows")
    )
    put = target.push(packed(rows, tmp_path / "scratch"), lambda *each: None)
    assert put.sent < 10_000
    access = Access(LOOPBACK, (keys(store),) if place == "bucket" else ())
    found = resolve(put.uri, base=tmp_path, bindings={}, cache=tmp_path / "cache", access=access, data=True)
    assert (found.path.name, found.digest) == ("rows.jsonl", bundle(rows).digest)
    assert found.path.read_bytes() == rows.read_bytes()


def test_a_compressed_file_that_is_damaged_or_too_large_is_refused(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = bucket(store)
    put = S3Target(as_user(monkeypatch, store), "s3://models/harmed").push(packed(model, tmp_path / "s"), lambda *each: None)
    small = Access(Rules(hosts=LOOPBACK.hosts, max_bytes=1 << 20), (keys(store),))
    ask = {"base": tmp_path, "bindings": {}}
    said = raised(SourceError, lambda: resolve(put.uri, **ask, cache=tmp_path / "c1", access=small))
    assert "model.safetensors.still.zst" in said and "more than" in said
    file = next(there.rglob("harmed/*/model.safetensors.still.zst"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    said = raised(SourceError, lambda: resolve(put.uri, **ask, cache=tmp_path / "c2", access=Access(LOOPBACK, (keys(store),))))
    assert "model.safetensors.still.zst" in said and "damaged" in said


def test_what_does_not_get_smaller_travels_as_it_is(tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    (noise / "rows.parquet").write_bytes(random.Random(1).randbytes(200_000))
    assert packed(noise, tmp_path / "scratch").files == bundle(noise).files
    assert list((tmp_path / "scratch").iterdir()) == []
