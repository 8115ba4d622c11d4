"""The images that a cluster's nodes are given: the sandbox's, and ours, built from the project's own Dockerfile.

No registry is asked. The base is made of Debian packages, all is kept in `${XDG_CACHE_HOME:-~/.cache}/stillhouse/images`.

The worker's image here has no packages for training (5 GB): the test's nodes mount those of the tests' own environment at
`TRAINING`, where its Python finds them. Everything else of it, its command, its user, our source, is as the Dockerfile has it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from tests.support.nodes.commands import CommandFailed, run
from tests.support.nodes.running import Processes

__all__ = ["NAMES", "TRAINING", "give", "load", "ours", "pause", "training", "unpacked", "values"]

ROOT = Path(__file__).parents[3]
TRAINING = "/opt/training"
NAMES = {target: f"localhost/stillhouse/{target}:test" for target in ("operator", "serve", "gateway", "worker")}
"""Names of our images by the Dockerfile's targets. With `localhost/` nobody looks for them elsewhere."""
_BASE = "localhost/stillhouse-base:bookworm"
_PAUSE = "localhost/pause:1"
_PACKAGES = "ca-certificates,python3,python3-venv,libpython3.11"
_PAUSE_SOURCE = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int number) { _exit(0); }
static void reap(int number) { while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
  signal(SIGINT, leave);
  signal(SIGTERM, leave);
  signal(SIGCHLD, reap);
  for (;;) pause();
}
"""


def values() -> dict[str, Any]:
    """Return the chart's values that take these images, with builds that fit onto a node of two CPUs."""
    named = {target: dict(zip(("repository", "tag"), name.rsplit(":", 1), strict=True)) for target, name in NAMES.items()}
    return {"images": {"pullPolicy": "Never", **named}, "build": {"cpu": "1", "memory": "3Gi", "maxConcurrent": 2}}


def training() -> Path:
    """Return the folder of this environment's packages, which the nodes mount at `TRAINING`."""
    return Path(sysconfig.get_paths()["purelib"])


def pause() -> Path:
    """Return an archive of the sandbox's image: one static program that waits."""
    archive = _cache() / f"pause-{hashlib.sha256(_PAUSE_SOURCE.encode()).hexdigest()[:12]}.tar"
    with FileLock(_cache() / "build.lock"):
        if not archive.exists():
            with tempfile.TemporaryDirectory() as aside:
                run("gcc", "-static", "-Os", "-x", "c", "-o", Path(aside) / "pause", "-", given=_PAUSE_SOURCE)
                container = _buildah("from", "scratch").strip()
                _buildah("add", "-q", container, str(Path(aside) / "pause"), "/pause")
                _buildah("config", "--entrypoint", '["/pause"]', container)
                _buildah("commit", "-q", "--rm", container, _PAUSE)
                _buildah("push", "-q", _PAUSE, f"oci-archive:{archive}.new:{_PAUSE}")
            Path(f"{archive}.new").replace(archive)
    return archive


def ours(report: Callable[[str], None] | None = None) -> Path:
    """Return an archive of the images of operator, server, gateway and worker, built from this checkout where it changed.

    Raises:
        CommandFailed: one of them cannot be built.
    """
    tell = report or (lambda line: print(line, file=sys.stderr, flush=True))
    archive = _cache() / f"ours-{_key()}.tar"
    with FileLock(_cache() / "build.lock"):
        if archive.exists():
            archive.touch()
            return archive
        started = time.monotonic()
        tell("building the images operator, serve, gateway and worker from the Dockerfile: about three minutes at first")
        _base(tell)
        with tempfile.TemporaryDirectory(dir=_cache()) as aside:
            layout = Path(aside) / "layout"
            for target, name in NAMES.items():
                _build(target, name, Path(aside))
                _buildah("push", "-q", "--disable-compression", name, f"oci:{layout}:{name}")
                tell(f"  {target}: {time.monotonic() - started:.0f} s")
            made = Path(aside) / "images.tar"
            run("tar", "-cf", made, "-C", layout, ".")
            for former in _cache().glob("ours-*.tar"):
                former.unlink()
            made.replace(archive)
        tell(f"built the images in {time.monotonic() - started:.0f} s")
    return archive


def load(socket: Path, archive: Path) -> None:
    """Give the images of an archive to the node whose runtime listens at `socket`."""
    run("ctr", "-a", socket, "-n", "k8s.io", "images", "import", archive)


def unpacked(archives: Sequence[Path]) -> Path:
    """Return a state folder of containerd in which these archives' images lie unpacked: `give` makes it a node's own.

    To unpack them takes longer than all else of a cluster's start, so it is done once.
    """
    version = run("containerd", "--version")
    key = hashlib.sha256(" ".join([version, *(each.name for each in archives)]).encode()).hexdigest()[:16]
    folder = _cache() / f"unpacked-{key}"
    with FileLock(_cache() / "build.lock"):
        if not folder.exists():
            for former in _cache().glob("unpacked-*"):
                shutil.rmtree(former)
            with tempfile.TemporaryDirectory(dir=_cache(), prefix="unpacking-") as aside:
                _unpack(archives, Path(aside))
                (Path(aside) / "root").rename(folder)
    return folder


def give(state: Path, folder: Path) -> None:
    """Make a node's own copy of such a folder: what is never written again is linked, the databases are copied."""
    try:
        run("cp", "-al", state, folder)
    except CommandFailed:  # another file system
        shutil.rmtree(folder, ignore_errors=True)
        run("cp", "-a", state, folder)
    for database in folder.rglob("*.db"):
        if not database.parent.name.startswith("io.containerd."):
            continue  # a file of an image
        aside = database.with_suffix(".new")
        shutil.copy2(database, aside)
        aside.replace(database)


def _unpack(archives: Sequence[Path], aside: Path) -> None:
    (aside / "settings.toml").write_text(
        f'version = 2\nroot = "{aside}/root"\nstate = "{aside}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{aside}/socket"\n'
    )
    processes = Processes(aside, bound=True)
    processes.start("containerd", ["containerd", "-c", aside / "settings.toml"])
    try:
        processes.wait("containerd", lambda: "" if (aside / "socket").is_socket() else "it does not listen yet")
        for archive in archives:
            load(aside / "socket", archive)
    finally:
        processes.end_all()


def _build(target: str, name: str, aside: Path) -> None:
    words = [
        "bud",
        "-q",
        "--layers",
        "--isolation",
        "chroot",
        "--network",
        "host",
        "--target",
        target,
        "--build-arg",
        f"BASE={_BASE}",
    ]
    words += ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", "--volume", f"{_pip_settings(aside)}:/etc/pip.conf:ro"]
    words += ["--build-arg", "WORKER_PACKAGES=requirements/serve.txt", "-t", name, "-f", str(ROOT / "Dockerfile"), str(ROOT)]
    _buildah(*words)
    if target == "worker":
        container = _buildah("from", name).strip()
        _buildah("config", "--env", f"PYTHONPATH={TRAINING}", container)
        _buildah("commit", "-q", "--rm", container, name)


def _base(tell: Callable[[str], None]) -> None:
    """Make the base of Debian packages, once."""
    if _buildah("images", "-q", "--filter", f"reference={_BASE}").strip():
        return
    tell("  the base: debootstrap, about half a minute")
    with tempfile.TemporaryDirectory(dir=_cache()) as aside:
        root = Path(aside) / "root"
        run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", root, timeout_s=1200)
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / leftover, ignore_errors=True)
        container = _buildah("from", "scratch").strip()
        _buildah("add", "-q", container, str(root), "/")
        _buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        _buildah("commit", "-q", "--rm", container, _BASE)


def _pip_settings(aside: Path) -> Path:
    """Write down how pip reaches packages on this machine, so that it does in the build: settings of files and environment."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    kept: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in ("cert", "index-url", "extra-index-url", "timeout", "default-timeout", "trusted-host", "proxy"):
            kept["timeout" if setting == "default-timeout" else setting] = value.strip("'")
    file = aside / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in kept.items()))
    return file


def _key() -> str:
    """Return a digest of all that goes into the images."""
    digest = hashlib.sha256(f"{_PACKAGES} {TRAINING}".encode())
    sources = sorted((ROOT / "operator").rglob("*"))
    for path in [ROOT / "Dockerfile", *sorted((ROOT / "requirements").glob("*.txt")), *sources]:
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _buildah(*words: str) -> str:
    """Run buildah with a store of its own, apart from the user's."""
    store = _cache() / "buildah"
    try:
        return run("buildah", "--root", store, "--runroot", "/run/stillhouse-buildah", *words, timeout_s=1800)
    except CommandFailed as error:
        if "overlay" not in str(error):
            raise
        # The file system does not carry overlays (a container's own often does not): layers are copied instead.
        copies = ["--storage-driver", "vfs", "--root", f"{store}-vfs", "--runroot", "/run/stillhouse-buildah-vfs"]
        return run("buildah", *copies, *words, timeout_s=1800)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "stillhouse" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
