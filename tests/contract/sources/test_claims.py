"""A push to a claim, over a shell of this machine and over exec's WebSocket protocol."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.shells import ExecServer, HereShell, SocketShell, running_exec
from tests.support.source_folders import raised

from stillhouse.clients.sources import resolve
from stillhouse.clients.sources.push.bundle import Bundle, bundle_of, compressed
from stillhouse.clients.sources.push.pvc import ClaimTarget, parse_claim
from stillhouse.clients.sources.push.shell import Shell
from stillhouse.errors import ClusterError, EnvironmentProblem, SourceError, UsageError

LARGE = 3_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[ExecServer]:
    with running_exec() as running:
        yield running


@pytest.fixture(params=["here", "socket"])
def shell(request: pytest.FixtureRequest, server: ExecServer) -> Shell:
    return HereShell() if request.param == "here" else SocketShell(server)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillhouse.clients.sources.push.pvc.time.sleep", lambda seconds: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(250)) * (LARGE // 250))
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text('{"a": 1}')
    (folder / "tokenizer_config.json").write_text("")
    return folder


def bundle(path: Path) -> Bundle:
    return bundle_of(path, str(path), resolve(str(path), base=path.parent, bindings={}).digest, None)


def silent(done: int, total: int) -> None:
    pass


def test_a_folder_is_put_there_once(shell: Shell, model: Path, tmp_path: Path) -> None:
    root = tmp_path / "claim of a user"
    root.mkdir()
    target = ClaimTarget(shell, "pvc://models", root=str(root), block=1_000_000)
    told: list[tuple[int, int]] = []
    first = target.push(bundle(model), lambda done, total: told.append((done, total)))
    assert first.sent == bundle(model).size
    assert told == sorted(told)
    assert told[-1] == (first.sent, first.sent)
    assert first.uri == f"pvc://models/sources/{bundle(model).folder}"
    place = root / first.uri.removeprefix("pvc://models/")
    found = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert found == {"1_Pooling/config.json", "config.json", "tokenizer_config.json", "model.safetensors"}
    assert resolve(str(place), base=tmp_path, bindings={}).digest == bundle(model).digest
    assert target.push(bundle(model), silent).sent == 0
    (place / "config.json").write_text("[]")
    assert "not what was pushed" in raised(SourceError, lambda: resolve(str(place), base=tmp_path, bindings={}))
    assert target.push(bundle(model), silent).sent == 2, "what was changed there is mended, and nothing else is sent"


def test_a_file_of_another_folder(shell: Shell, tmp_path: Path) -> None:
    rows = tmp_path / "rows of mine.jsonl"
    rows.write_text('{"text": "a"}\n')
    place = ClaimTarget(shell, "pvc://models/team/x/", root=str(tmp_path / "claim")).push(bundle(rows), silent)
    assert place.uri == f"pvc://models/team/x/{bundle(rows).folder}/rows of mine.jsonl"
    assert (tmp_path / "claim" / place.uri.removeprefix("pvc://models/")).read_text() == rows.read_text()


def test_an_interrupted_push_goes_on(shell: Shell, model: Path, tmp_path: Path) -> None:
    target = ClaimTarget(shell, "pvc://models", root=str(tmp_path / "claim"), block=1_000_000)

    def stop(done: int, total: int) -> None:
        if done > 1_900_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        target.push(bundle(model), stop)
    rest = target.push(bundle(model), silent)
    assert 0 < rest.sent <= 1_000_000 + 100
    assert target.push(bundle(model), silent).sent == 0


def test_a_connection_that_breaks_off_is_made_again(model: Path, tmp_path: Path, server: ExecServer) -> None:
    whole = bundle(model)
    here = HereShell(breaks=4, after=400_000)
    assert ClaimTarget(here, "pvc://m", root=str(tmp_path / "a"), block=1_000_000).push(whole, silent).sent < whole.size
    assert here.breaks == 0
    server.cut = 1_200_000
    target = ClaimTarget(SocketShell(server), "pvc://m", root=str(tmp_path / "b"))
    place = target.push(whole, silent)
    assert server.cut == 0
    assert resolve(str(tmp_path / "b" / place.uri.removeprefix("pvc://m/")), base=tmp_path, bindings={}).digest == whole.digest
    for_ever = HereShell(breaks=1000, after=0)
    with pytest.raises(EnvironmentProblem, match="does not answer"):
        ClaimTarget(for_ever, "pvc://m", root=str(tmp_path / "c")).push(whole, silent)


def test_a_beginning_that_is_another_files_is_thrown_away(shell: Shell, model: Path, tmp_path: Path) -> None:
    whole = bundle(model)
    part = tmp_path / "claim" / "sources" / whole.folder / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    target = ClaimTarget(shell, "pvc://m", root=str(tmp_path / "claim"))
    for content in (b"x" * 1000, b"x" * LARGE, b"x" * (LARGE + 1)):
        part.write_bytes(content)
        target.push(whole, silent)
        assert (part.parent / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
        assert not part.exists()
        (part.parent / "model.safetensors").unlink()


def test_a_file_that_changes_meanwhile_is_told(shell: Shell, model: Path, tmp_path: Path) -> None:
    whole = bundle(model)
    (model / "model.safetensors").write_bytes(b"y" * LARGE)
    target = ClaimTarget(shell, "pvc://m", root=str(tmp_path / "claim"))
    assert "another SHA-256" in raised(SourceError, lambda: target.push(whole, silent))
    (model / "model.safetensors").write_bytes(b"y")
    assert "was changed" in raised(SourceError, lambda: target.push(whole, silent))


def test_a_claim_that_cannot_be_written_is_told(shell: Shell, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="exit code"):
        ClaimTarget(shell, "pvc://m", root=str(tmp_path / "file")).push(bundle(model), silent)


def test_what_a_program_says_and_how_it_ends(shell: Shell) -> None:
    ended = shell.run(["sh", "-c", 'echo "$1"; echo no >&2; exit 7', "sh", "a b"])
    assert (ended.code, ended.out, ended.err) == (7, b"a b\n", "no\n")
    assert shell.run(["head", "-c", "3"], iter([b"ab", b"c"])).out == b"abc"


def test_a_pod_that_may_not_be_asked(server: ExecServer) -> None:
    with pytest.raises(ClusterError, match="403"):
        SocketShell(server, "other").run(["true"])


@pytest.mark.parametrize("uri", ["pvc://", "pvc://A", "pvc://c/../x", "pvc://c/a/../../b", "pvc://c/store", "pvc://c/./store/x"])
def test_places_that_are_none(uri: str) -> None:
    raised(UsageError, lambda: parse_claim(uri))


def test_a_claim_holds_what_travelled_and_a_build_reads_it_plain(shell: Shell, model: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    root, cache = tmp_path / "claim", tmp_path / "cache"
    sent = compressed(bundle(model), tmp_path / "scratch", silent)
    target = ClaimTarget(shell, "pvc://models", root=str(root))
    put = target.push(sent, silent)
    assert put.sent == sent.size < LARGE / 10
    assert target.push(sent, silent).sent == 0
    place = root / put.uri.removeprefix("pvc://models/")
    assert (place / "model.safetensors.still.zst").is_file() and not (place / "model.safetensors").exists()
    found = resolve(str(place), base=tmp_path, bindings={}, cache=cache)
    assert (found.digest, found.uri) == (bundle(model).digest, f"file://{place}")
    assert (found.path / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    born = (found.path / "model.safetensors").stat().st_ino
    once_more = resolve(str(place), base=tmp_path, bindings={}, cache=cache)
    assert (once_more.path / "model.safetensors").stat().st_ino == born, "it is unpacked once"
    packed = place / "model.safetensors.still.zst"
    whole, state = packed.read_bytes(), packed.stat()
    time.sleep(0.02)  # a clock tick of the file system
    packed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(packed, ns=(state.st_atime_ns, state.st_mtime_ns))
    raised(SourceError, lambda: resolve(str(place), base=tmp_path, bindings={}, cache=cache))
    packed.write_bytes(whole[:-3])
    assert "model.safetensors.still.zst" in raised(
        SourceError, lambda: resolve(str(place), base=tmp_path, bindings={}, cache=cache)
    )


def test_a_single_file_of_a_claim_that_travelled_compressed(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n' * 50_000)
    (tmp_path / "scratch").mkdir()
    put = ClaimTarget(HereShell(), "pvc://models", root=str(tmp_path / "claim")).push(
        compressed(bundle(rows), tmp_path / "scratch", silent), silent
    )
    place = tmp_path / "claim" / put.uri.removeprefix("pvc://models/")
    found = resolve(str(place), base=tmp_path, bindings={}, cache=tmp_path / "cache", data=True)
    assert (found.path.name, found.digest) == ("rows.jsonl", bundle(rows).digest)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (place.parent / "rows.jsonl.still.zst").rename(elsewhere / "rows.jsonl.still.zst")
    raised(SourceError, lambda: resolve(str(elsewhere / "rows.jsonl"), base=tmp_path, bindings={}, cache=tmp_path / "cache"))
