"""How the Kubernetes programs are found and built. The Go compiler is the far side of the seam: a small script plays it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.kube import binaries as builder
from tests.support.kube.binaries import PROGRAMS, SERVERS, Unavailable, provide

ROOT = Path(__file__).parents[2]

# Answers `go env`, and for `go build … -o FILE PACKAGE` notes the call and writes FILE slowly.
GO = """#!/bin/sh
if [ "$1" = env ]; then printf '%s\\nlinux\\namd64\\n' "${FAKE_GO:-go1.26.0}"; exit; fi
echo "$*" >> "$FAKE_GO_CALLS"
while [ "$1" != -o ]; do shift; done
printf half > "$2"
sleep 0.3
[ -z "$FAKE_GO_FAILS" ] || { rm "$2"; echo "no route to the module proxy" >&2; exit 1; }
printf '#!/bin/sh\\n' > "$2"
chmod +x "$2"
"""


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def go_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the scripted compiler first on PATH and an empty cache; the file holds one line per build."""
    compiler = _program(tmp_path / "go" / "go", GO)
    calls = tmp_path / "calls"
    calls.touch()
    monkeypatch.setenv("PATH", f"{compiler.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GO_CALLS", str(calls))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return calls


def test_assets_of_the_user_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROGRAMS:
        _program(tmp_path / name, "#!/bin/sh\n")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no compiler is asked for

    assert provide() == {name: tmp_path / name for name in PROGRAMS}


def test_assets_without_helm_are_complete(go_calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVERS:
        _program(tmp_path / "assets" / name, "#!/bin/sh\n")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))

    assert provide(SERVERS) == {name: tmp_path / "assets" / name for name in SERVERS}
    assert go_calls.read_text() == ""
    assert provide()["helm"].is_relative_to(tmp_path / "cache")


def test_incomplete_assets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path / "etcd", "#!/bin/sh\n")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    with pytest.raises(Unavailable, match="no executable kube-apiserver"):
        provide()


def test_without_a_compiler_the_way_out_is_named(go_calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(Unavailable, match=r"no `go` on PATH.*install Go >= 1\.25.*KUBEBUILDER_ASSETS"):
        provide()


@pytest.mark.parametrize("version", ["go1.19.8", "go1.24.13", "devel"])
def test_a_compiler_too_old_is_refused_before_it_fails(version: str, go_calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GO", version)

    with pytest.raises(Unavailable, match="too old"):
        provide()

    assert go_calls.read_text() == ""


def test_each_program_is_built_once_and_announced(go_calls: Path) -> None:
    said: list[str] = []

    first = provide(report=said.append)
    again = provide(report=said.append)

    assert first == again
    assert all(os.access(path, os.X_OK) for path in first.values())
    assert len(go_calls.read_text().splitlines()) == len(PROGRAMS)
    assert [line.split(" in ")[0] for line in said if line.startswith("built")] == [
        f"built {program.name} {program.version}" for program in PROGRAMS.values()
    ]


def test_another_compiler_builds_anew(go_calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = provide(["etcd"])["etcd"]
    monkeypatch.setenv("FAKE_GO", "go1.27.1")

    assert provide(["etcd"])["etcd"] != before
    assert before.exists()


def test_a_failed_build_says_why_and_leaves_nothing_that_looks_built(
    go_calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GO_FAILS", "1")
    with pytest.raises(Unavailable, match=r"building etcd [\d.]+ failed:\s+no route to the module proxy"):
        provide(["etcd"])
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["build.lock"]

    monkeypatch.delenv("FAKE_GO_FAILS")
    assert provide(["etcd"])["etcd"].read_text() == "#!/bin/sh\n"


def test_two_processes_build_once(go_calls: Path) -> None:
    command = [sys.executable, "-m", builder.__name__]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    outputs = [process.communicate(timeout=60) for process in both]

    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert [line.split()[0] for line in outputs[0][0].splitlines()] == list(PROGRAMS)
    assert len(go_calls.read_text().splitlines()) == len(PROGRAMS)


def test_what_a_killed_build_left_is_removed(go_calls: Path) -> None:
    path = provide(["etcd"])["etcd"]
    path.unlink()
    leftover = path.parent / "building-killed"
    leftover.mkdir()

    provide(["etcd"])

    assert not leftover.exists()


def test_the_users_go_settings_do_not_change_the_build(go_calls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _program(tmp_path / "go" / "go", GO.replace('echo "$*"', 'echo "GOFLAGS=[$GOFLAGS] GOWORK=[$GOWORK] CGO=[$CGO_ENABLED] $*"'))
    monkeypatch.setenv("GOFLAGS", "-mod=vendor -tags=surprise")

    provide(["kube-apiserver"])

    call = go_calls.read_text()
    assert call.startswith("GOFLAGS=[] GOWORK=[off] CGO=[0] build ")
    assert f"gitVersion=v{PROGRAMS['kube-apiserver'].version}" in call


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_real_programs_tell_the_pinned_version(program: builder.Program, programs: dict[str, Path]) -> None:
    executable = programs[program.name]
    words = [executable, *program.tells_version.split()]
    told = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, timeout=60).stdout

    assert program.version in told
