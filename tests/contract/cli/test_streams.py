"""`still` as services and pipelines start it: streams that are closed, full, or of another encoding; readers that go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.cli import Project

STILL = f"{sys.executable} -m stillhouse.entrypoints.cli"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", tmp_path / "home", tmp_path / "cache").create()
    made.still("build", str(made.file))
    return made


def shell(project: Project, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash with `pipefail`; STILL and FILE stand for the command and the resource."""
    words = line.replace("STILL", STILL).replace("FILE", str(project.file))
    environment = {**project.environment(), **more}
    bash = ["bash", "-o", "pipefail", "-c", words]
    return subprocess.run(bash, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_streams_and_readers(project: Project) -> None:
    cases = (
        "STILL status >&-", "STILL plan FILE >&-", "STILL build FILE >&- 2>&- <&-", "STILL build FILE 2>&-", "STILL status <&-",
        "STILL status | true", "STILL plan FILE | true", "STILL status | head -1", "STILL status -o json | true",
    )  # fmt: skip
    for line in cases:
        done = shell(project, line)
        assert done.returncode == 0, (line, done.stderr)
        assert "bug in" not in done.stderr, (line, done.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_an_output_that_is_full(project: Project) -> None:
    for line in ("STILL status > /dev/full", "STILL crd > /dev/full", "STILL plan FILE -o json > /dev/full"):
        done = shell(project, line)
        assert done.returncode == 5, (line, done.stderr)
        assert "the output cannot be written" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_encoding_without_signs_for_what_is_said(project: Project) -> None:
    done = shell(project, "STILL status", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\u2713" in done.stdout


def test_a_limit_of_the_shell_is_told_as_one(project: Project) -> None:
    done = shell(project, "ulimit -f 40; STILL rebuild tiny")
    assert done.returncode == 5, done.stderr
    assert "ulimit -f" in done.stderr
    assert "spec.compress" not in done.stderr
