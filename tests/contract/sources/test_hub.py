"""`hf://` against a small server that speaks the hub's protocol on loopback."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from stillhouse.clients.sources.hub import fetch_repository
from stillhouse.clients.sources.selection import is_used
from stillhouse.errors import EnvironmentProblem

COMMIT = "c0ffee" + "0" * 34
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"weights" * 1000,
    "tokenizer.json": b"{}",
    "modules.json": b"[]",
    "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
    "README.md": b"# about",
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"raise SystemExit",
    "onnx/model.onnx": b"a variant",
    ".eval/config.json": b"{}",
    "1_Pooling/.old/config.json": b"{}",
    "a/b/c/d/e/f/config.json": b"{}",
}
USED = ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json"]


class Hub(BaseHTTPRequestHandler):
    """The hub's model_info, and files by commit with the headers that its client asks for."""

    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        for name, files in (("owner/model", FILES), ("owner/pickled", {"pytorch_model.bin": b"x"})):
            if path in (f"/api/models/{name}/revision/main", f"/api/models/{name}/revision/{COMMIT}"):
                siblings = [{"rfilename": file} for file in files]
                return self.answer(json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
            if path == f"/api/models/{name}/tree/{COMMIT}":
                return self.answer(json.dumps([self.entry(file, content) for file, content in files.items()]).encode())
            for file, content in files.items():
                if path == f"/{name}/resolve/{COMMIT}/{file}":
                    return self.answer(content, etag=f'"{hashlib.sha256(content).hexdigest()}"')
        code = "RevisionNotFound" if path.startswith("/api/models/owner/model/") else "RepoNotFound"
        return self.answer(b"{}", status=404, error=code)

    @staticmethod
    def entry(file: str, content: bytes) -> dict[str, object]:
        return {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def answer(self, body: bytes, *, status: int = 200, etag: str = "", error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        if etag:
            self.send_header("ETag", etag)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("BoundHub", (Hub,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


SCRIPT = """
import json, sys
from pathlib import Path
from stillhouse.clients.sources import resolve
from stillhouse.errors import StillhouseError
try:
    told = []
    found = resolve(sys.argv[1], base=Path("."), bindings={}, cache=Path(sys.argv[2]), fetching=lambda *each: told.append(each))
    files = sorted(str(p.relative_to(found.path)) for p in found.path.rglob("*") if p.is_file())
    print(json.dumps({"told": told, "uri": found.uri, "digest": found.digest, "commit": found.commit, "files": files}))
except StillhouseError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""


def ask(uri: str, cache: Path, endpoint: str, **environment: str) -> dict[str, object]:
    """Resolve in a process of its own: the hub's library reads its settings once, when it is imported."""
    import os

    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", **environment}
    env.pop("HF_TOKEN", None)
    env["HF_HOME"] = str(cache / "home")
    command = [sys.executable, "-c", SCRIPT, uri, str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def test_revision_is_pinned_and_only_data_is_downloaded(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    found = ask("hf://owner/model", tmp_path, endpoint)
    assert found["uri"] == f"hf://owner/model@{COMMIT}"
    assert found["commit"] == COMMIT
    assert found["files"] == USED == sorted(name for name in FILES if is_used(name) and not name.endswith(".onnx"))
    assert not [line for line in asked if line.endswith((".bin", ".py", ".onnx"))]
    told = found["told"]
    assert isinstance(told, list)
    total = sum(len(FILES[name]) for name in USED)
    assert told[-1] == [total, total], "bytes that have come, and bytes in all"
    assert {all_in_all for _, all_in_all in told} == {total}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    gets = len([line for line in asked if line == f"GET /owner/model/resolve/{COMMIT}/model.safetensors"])
    again = ask(f"hf://owner/model@{COMMIT}", tmp_path, endpoint)
    assert again["digest"] == found["digest"]
    assert again["told"] == [], "nothing was downloaded"
    assert len([line for line in asked if line == f"GET /owner/model/resolve/{COMMIT}/model.safetensors"]) == gets == 1


def test_offline_takes_what_is_in_the_cache(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    pinned = f"hf://owner/model@{COMMIT}"
    missing = ask(pinned, tmp_path, endpoint, HF_HUB_OFFLINE="1")
    assert missing["error"] == "EnvironmentProblem"
    assert "cache" in str(missing["text"])
    found = ask(pinned, tmp_path, endpoint)
    before = len(asked)
    assert ask(pinned, tmp_path, endpoint, HF_HUB_OFFLINE="1") == {**found, "told": []}
    assert len(asked) == before


@pytest.mark.parametrize(
    ("uri", "kind", "says"),
    [
        ("hf://owner/model@v9", "SourceError", "no revision v9"),
        ("hf://owner/nothing", "SourceError", "not there"),
        ("hf://owner/pickled", "UnsafeSource", "pickle"),
    ],
)
def test_what_the_hub_refuses_is_explained(uri: str, kind: str, says: str, hub: tuple[str, list[str]], tmp_path: Path) -> None:
    answer = ask(uri, tmp_path, hub[0])
    assert answer["error"] == kind
    assert says in str(answer["text"])


def test_a_repository_that_is_too_large_is_known_before_the_first_byte(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    answer = ask("hf://owner/model", tmp_path, endpoint, STILLHOUSE_SOURCE_LIMIT="1000")
    assert answer["error"] == "SourceError"
    assert "fetching.maxSize" in str(answer["text"])
    assert not [line for line in asked if line.startswith("GET /owner/model/resolve")]
    assert "digest" in ask("hf://owner/model", tmp_path, endpoint, STILLHOUSE_SOURCE_LIMIT="8000")


def test_unreachable_hub(tmp_path: Path) -> None:
    answer = ask("hf://owner/model", tmp_path, "http://127.0.0.1:9")
    assert answer["error"] == "EnvironmentProblem", "the machine's network, not the file"
    assert "HF_ENDPOINT" in str(answer["text"])


@pytest.mark.parametrize(
    ("number", "message", "way"),
    [
        (errno.ENOSPC, "the disk is full", "free space there"),
        (errno.EDQUOT, "the disk is full", "free space there"),
        (errno.EROFS, "the download cache cannot be written", "give this user the right to write there"),
        (errno.EACCES, "the download cache cannot be written", "give this user the right to write there"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_disk_that_takes_no_download_is_not_told_as_a_bad_network(
    own: bool, number: int, message: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> str:
        raise OSError(number, "the disk says so", "model.safetensors")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # not to ask the hub before
    with pytest.raises(EnvironmentProblem) as refused:
        fetch_repository("owner/model", None if own else tmp_path, "hf://owner/model")
    problem = refused.value.problem
    assert (refused.value.exit_code, problem.message) == (5, message)
    assert problem.fix == f"{way}, or put the cache elsewhere: {'HF_HOME' if own else 'XDG_CACHE_HOME'}=/path"


def test_an_error_of_the_network_is_still_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(**_: object) -> str:
        raise ConnectionResetError(errno.ECONNRESET, "reset by peer")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lost)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentProblem, match="the hub cannot be asked"):
        fetch_repository("owner/model", tmp_path, "hf://owner/model")
