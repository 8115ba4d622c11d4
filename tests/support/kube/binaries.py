"""The Kubernetes programs that the tests start, and Helm, as files.

They are looked for in this order:

1. the folder named by `KUBEBUILDER_ASSETS`, the convention of controller-runtime's envtest (it has the servers, and no Helm);
2. the cache `${XDG_CACHE_HOME:-~/.cache}/stillhouse/bin/`;
3. built from Go modules, once, at the versions and checksums pinned in `gomod/` (see `gomod/pin.sh`), into that cache.

`python -m tests.support.kube.binaries` builds them ahead of time and prints where they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

__all__ = ["PROGRAMS", "SERVERS", "Program", "Unavailable", "main", "provide"]

GOMOD = Path(__file__).parent / "gomod"
_REPORT_EVERY = 10.0  # seconds between two lines of progress while the compiler runs
_BUILD_FLAGS = ("-mod=readonly", "-buildvcs=false", "-trimpath")


class Unavailable(Exception):
    """The programs cannot be had on this machine; the text says why and what would help."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program and how it is built.

    `module` is a folder of `gomod/`, `package` the Go package of its `main`, `versioned_by` the required Go module whose
    version is the program's, `version_variable` the Go variable that the linker sets to it where the program would
    otherwise not know its own version, `cold_minutes` the time of a first build on two cores, `tells_version` the word that
    makes it print its version.
    """

    name: str
    module: str
    package: str
    versioned_by: str
    cold_minutes: int
    version_variable: str = ""
    tells_version: str = "--version"

    @property
    def version(self) -> str:
        """The pinned version, without `v`."""
        return _required_version(self.module, self.versioned_by)

    @property
    def link_flags(self) -> str:
        """Flags for the linker: no symbol table and no debug information, which halves the size."""
        return "-s -w" + (f" -X {self.version_variable}=v{self.version}" if self.version_variable else "")

    def key(self, go: str) -> str:
        """Name of the cache's folder for the program as built by `go` (compiler and platform) from the pinned modules."""
        digest = hashlib.sha256()
        for part in (*_BUILD_FLAGS, self.link_flags, self.package):
            digest.update(part.encode() + b"\0")
        for name in ("go.mod", "go.sum"):
            digest.update((GOMOD / self.module / name).read_bytes())
        return f"{self.name}-{self.version}-{go}-{digest.hexdigest()[:12]}"


def _kubernetes(name: str, cold_minutes: int, module: str = "kubernetes", tells_version: str = "--version") -> Program:
    """Return a program of Kubernetes itself."""
    package, variable = f"k8s.io/kubernetes/cmd/{name}", "k8s.io/component-base/version.gitVersion"
    return Program(name, module, package, "k8s.io/kubernetes", cold_minutes, variable, tells_version)


PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", cold_minutes=1),
        _kubernetes("kube-apiserver", cold_minutes=4),
        _kubernetes("kube-controller-manager", cold_minutes=2),
        _kubernetes("kube-scheduler", cold_minutes=1),
        _kubernetes("kubelet", cold_minutes=2),
        _kubernetes("kube-proxy", cold_minutes=1),
        _kubernetes("kubectl", cold_minutes=1, module="kubectl", tells_version="version --client"),
        Program("coredns", "coredns", "github.com/coredns/coredns", "github.com/coredns/coredns", 5, tells_version="-version"),
        Program(  # enforces NetworkPolicies
            "kube-router",
            "kube-router",
            "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
            "github.com/cloudnativelabs/kube-router/v2",
            cold_minutes=2,
            version_variable="github.com/cloudnativelabs/kube-router/v2/pkg/version.Version",
        ),
        Program(
            "versitygw",
            "versitygw",
            "github.com/versity/versitygw/cmd/versitygw",
            "github.com/versity/versitygw",
            cold_minutes=1,
            version_variable="main.Version",
        ),
        Program(
            "registry",
            "registry",
            "github.com/distribution/distribution/v3/cmd/registry",
            "github.com/distribution/distribution/v3",
            cold_minutes=2,
            version_variable="github.com/distribution/distribution/v3/version.version",
        ),
        Program(
            "helm",
            "helm",
            "helm.sh/helm/v3/cmd/helm",
            "helm.sh/helm/v3",
            cold_minutes=3,
            version_variable="helm.sh/helm/v3/internal/version.version",
            tells_version="version",
        ),
    )
}
SERVERS = ("etcd", "kube-apiserver")
"""The programs that a control plane consists of: what `KUBEBUILDER_ASSETS` must hold."""


def provide(names: Iterable[str] = tuple(PROGRAMS), report: Callable[[str], None] | None = None) -> dict[str, Path]:
    """Find or build programs.

    Args:
        names: keys of `PROGRAMS`.
        report: called with one line of text before and while something is built; standard error by default.

    Returns:
        The path of each program's executable file, by name.

    Raises:
        Unavailable: `KUBEBUILDER_ASSETS` lacks a server, Go is missing or too old, or the build failed.
    """
    wanted = list(names)
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        given = {name: Path(assets) / name for name in wanted if os.access(Path(assets) / name, os.X_OK)}
        missing = [name for name in wanted if name in SERVERS and name not in given]
        if missing:
            raise Unavailable(
                f"KUBEBUILDER_ASSETS={assets} holds no executable {', '.join(missing)}; unset it to build from Go modules"
            )
    else:
        given = {}
    if len(given) == len(wanted):
        return given
    compiler = _Go.find()
    return {name: given.get(name) or _cached(PROGRAMS[name], compiler, report or _to_stderr) for name in wanted}


def _cached(program: Program, compiler: _Go, report: Callable[[str], None]) -> Path:
    folder = _cache_root() / program.key(compiler.identity)
    path = folder / program.name
    if path.exists():  # renamed into place only when complete, so no lock is needed to believe it
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "build.lock"):
        if path.exists():  # another process built it while this one waited
            return path
        report(f"building {program.name} {program.version} from Go modules: about {program.cold_minutes} min on 2 cores, once")
        started = time.monotonic()
        for leftover in folder.glob("building-*"):  # of a build that was killed; the lock says that none is running
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as aside:
            built = Path(aside) / program.name
            compiler.build(program, built, report)
            built.replace(path)
        report(f"built {program.name} {program.version} in {time.monotonic() - started:.0f} s: {path}")
    return path


@dataclass(frozen=True, slots=True)
class _Go:
    """The Go compiler on PATH."""

    executable: str
    identity: str  # such as go1.26.8-linux-amd64

    @classmethod
    def find(cls) -> _Go:
        needed = _needed_go()
        way_out = f"install Go >= {needed} or set KUBEBUILDER_ASSETS to a folder with {', '.join(PROGRAMS)}"
        executable = shutil.which("go")
        if executable is None:
            raise Unavailable(f"no `go` on PATH to build the Kubernetes test programs; {way_out}")
        asked = subprocess.run(
            [executable, "env", "GOVERSION", "GOOS", "GOARCH"], capture_output=True, text=True, cwd=GOMOD, check=False
        )
        if asked.returncode != 0:
            raise Unavailable(f"`go env` failed: {asked.stderr.strip()}; {way_out}")
        version, system, architecture = asked.stdout.split("\n")[:3]
        number = re.match(r"go(\d+)\.(\d+)", version)
        if number is None or (int(number[1]), int(number[2])) < tuple(int(part) for part in needed.split(".")[:2]):
            raise Unavailable(f"{version or 'an unknown Go'} is too old for the Kubernetes test programs; {way_out}")
        return cls(executable, f"{re.sub(r'[^A-Za-z0-9.]+', '-', version)}-{system}-{architecture}")

    def build(self, program: Program, output: Path, report: Callable[[str], None]) -> None:
        """Compile `program` into `output`. Raises `Unavailable` with the compiler's last words."""
        command = [
            self.executable,
            "build",
            "-v",
            *_BUILD_FLAGS,
            "-ldflags",
            program.link_flags,
            "-o",
            str(output),
            program.package,
        ]
        # A user's own GOFLAGS or workspace must not change what is built; without cgo no C compiler is needed.
        environment = os.environ | {"GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "0"}
        with _running(command, environment, GOMOD / program.module) as lines:
            last = deque[str](maxlen=15)
            downloaded = compiled = 0
            started = told = time.monotonic()
            for line in lines:
                last.append(line)
                downloaded += line.startswith("go: downloading")
                compiled += not line.startswith("go: ")
                if time.monotonic() - told >= _REPORT_EVERY:
                    told = time.monotonic()
                    report(
                        f"  {program.name}: {downloaded} modules fetched, {compiled} packages compiled, {told - started:.0f} s"
                    )
        if not output.exists():
            raise Unavailable(f"building {program.name} {program.version} failed:\n  " + "\n  ".join(last))


@contextmanager
def _running(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[Iterator[str]]:
    """Run `command` and yield its output line by line; it is ended when the caller leaves early."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None  # asked for above
    try:
        with process.stdout as output:
            yield (line.rstrip() for line in output)
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _required_version(module: str, dependency: str) -> str:
    pinned = re.search(rf"^(?:require)?\s*{re.escape(dependency)} v(\S+)", (GOMOD / module / "go.mod").read_text(), re.MULTILINE)
    if pinned is None:
        raise ValueError(f"gomod/{module}/go.mod requires no {dependency}")
    return pinned[1]


def _needed_go() -> str:
    """The highest of the pinned modules' `go` directives."""
    directives = [re.search(r"^go (\S+)", path.read_text(), re.MULTILINE) for path in GOMOD.glob("*/go.mod")]
    return max((found[1] for found in directives if found), key=lambda version: [int(part) for part in version.split(".")])


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stillhouse" / "bin"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Build or find every program and print the paths; exit status 1 with the reason when that cannot be."""
    try:
        for name, path in provide().items():
            print(f"{name} {path}")
    except Unavailable as why:
        _to_stderr(f"error: {why}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
