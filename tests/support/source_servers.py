"""Real servers that sources come from, on loopback: an S3 gateway (versitygw), an OCI registry (distribution), static files."""

from __future__ import annotations

import hashlib
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.kube.binaries import Unavailable, provide
from tests.support.kube.process import ServerProcess, StartFailed, free_port
from tests.support.tiers import require

__all__ = ["PASSWORD", "USER", "Files", "Registry", "Store", "running_files", "running_registry", "running_store"]

USER, PASSWORD = "someone", "a-password"
_HASH = "$2b$05$DZ1f4pKd9HyixJup0XGohe9fpeT5opR5tGHzEV2Tlqvj86NLLZ0j2"
_KEY, _SECRET = "ACCESS", "SECRETSECRET"


@dataclass(frozen=True)
class Store:
    """An S3 gateway over a folder: a bucket is a folder in `root`, an object a file."""

    endpoint: str
    root: Path
    key: str = _KEY
    secret: str = _SECRET

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(frozen=True)
class Registry:
    host: str


def _program(tier: str, name: str) -> Path:
    try:
        return provide([name])[name]
    except Unavailable as why:
        require(tier, str(why))
        raise  # not reached


def _started(name: str, start: Callable[[int], ServerProcess], ready: Callable[[int], bool]) -> tuple[ServerProcess, int]:
    """Start a server on a free port, on another one where that was taken meanwhile."""
    for attempt in range(3):
        port = free_port()
        server = start(port)

        def missing(server: ServerProcess = server, port: int = port) -> str | None:
            return None if server.listens_on(port) and ready(port) else "it does not answer"

        try:
            server.wait_until(missing, timeout=60)
        except StartFailed as failed:
            server.stop()
            if not failed.port_taken or attempt == 2:
                raise
        else:
            return server, port
    raise AssertionError(name)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True  # it asks who we are
    except OSError:
        return False
    return True


@contextmanager
def running_store(folder: Path, tier: str = "contract") -> Iterator[Store]:
    program = _program(tier, "versitygw")
    root = folder / "buckets"
    root.mkdir(parents=True)

    def start(port: int) -> ServerProcess:
        words = ["--access", _KEY, "--secret", _SECRET, "--port", f"127.0.0.1:{port}", "posix", "--sidecar", str(meta), str(root)]
        return ServerProcess("versitygw", program, words, folder / "versitygw.log")

    meta = folder / "meta"  # not every file system of a test machine has extended attributes
    meta.mkdir()
    server, port = _started("versitygw", start, lambda port: _answers(f"http://127.0.0.1:{port}/"))
    try:
        yield Store(f"http://127.0.0.1:{port}", root)
    finally:
        server.stop()


@contextmanager
def running_registry(folder: Path, *, users: bool = False, tier: str = "contract") -> Iterator[Registry]:
    program = _program(tier, "registry")
    folder.mkdir(parents=True, exist_ok=True)
    auth = ""
    if users:
        (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
        auth = f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}\n"

    def start(port: int) -> ServerProcess:
        configuration = folder / "registry.yaml"
        configuration.write_text(
            f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'blobs'}}}}}\n"
            f"http: {{addr: 127.0.0.1:{port}, secret: test}}\n{auth}"
        )
        return ServerProcess("registry", program, ["serve", str(configuration)], folder / "registry.log")

    server, port = _started("registry", start, lambda port: _answers(f"http://127.0.0.1:{port}/v2/"))
    try:
        yield Registry(f"127.0.0.1:{port}")
    finally:
        server.stop()


@dataclass
class Files:
    """Static files over HTTP, with ranges. `cut` breaks off each answer after so many bytes, `secret` must come with each one.

    `asked` lists method, path and range of every request.
    """

    root: Path
    url: str = ""
    cut: int = 0
    secret: str = ""
    ranges: bool = True
    tags: bool = True
    heads: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def sums(self, *names: str) -> bytes:
        lines = [f"{hashlib.sha256((self.root / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
        content = "".join(lines).encode()
        (self.root / "SHA256SUMS").write_bytes(content)
        return content


class _Handler(BaseHTTPRequestHandler):
    files: Files
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        files, wanted = self.files, self.headers.get("Range", "")
        files.asked.append((self.command, self.path, wanted))
        path = files.root / urllib.request.unquote(self.path.partition("?")[0]).lstrip("/")
        if files.secret and self.headers.get("Authorization") != files.secret:
            return self.answer(401, b"")
        if self.command == "HEAD" and not files.heads:
            return self.answer(405, b"")
        if not path.is_file():
            return self.answer(404, b"")
        content = path.read_bytes()
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        match = re.fullmatch(r"bytes=(\d+)-", wanted)
        start = int(match[1]) if match and files.ranges and self.headers.get("If-Range", tag) == tag else 0
        headers = {"ETag": tag} if files.tags else {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.answer(206 if start else 200, content[start:], **headers)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.files.cut
        self.wfile.write(body[:cut] if cut else body)
        if cut and len(body) > cut:
            self.close_connection = True


@contextmanager
def running_files(root: Path) -> Iterator[Files]:
    files = Files(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": files}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
