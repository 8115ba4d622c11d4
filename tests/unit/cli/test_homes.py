"""STILLHOUSE_HOME where no store can be, or none that can be written: the machine is in the way, and the message says how."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli import Project
from tests.support.refusals import refuse

from stillhouse.clients.store.local import LocalStore

from .conftest import Still


def a_file(home: Path) -> None:
    home.write_text("not a folder")


def a_link_to_nowhere(home: Path) -> None:
    home.symlink_to(home.parent / "gone" / "store")


def a_link_in_a_circle(home: Path) -> None:
    home.symlink_to(home)


def a_file_below(home: Path) -> None:
    home.mkdir()
    (home / "locks").write_text("not a folder")


BAD = [a_file, a_link_to_nowhere, a_link_in_a_circle, a_file_below]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create()


def of_doctor(still: Still, title: str) -> dict[str, Any]:
    result = still("doctor", "-o", "json")
    (finding,) = [finding for finding in json.loads(result.out) if finding["title"] == title]
    assert result.code == 5 or finding["state"] != "failed"
    found: dict[str, Any] = finding
    return found


@pytest.mark.parametrize("spoil", BAD)
def test_a_home_that_is_no_folder(still: Still, project: Project, spoil: Callable[[Path], None]) -> None:
    assert of_doctor(still, "store")["state"] == "ok", "it is not there yet, and can be made"
    spoil(project.home)
    for line in (["build", str(project.file)], ["up", "--detach", str(project.file)], ["gc"]):
        result = still(*line)
        assert (result.code, result.out) == (5, ""), line
        assert "the store cannot be" in result.err
        assert str(project.home) in result.err
        assert "fix:     move away what stands where the store's folder belongs" in result.err
        assert "STILLHOUSE_HOME=" in result.err
    finding = of_doctor(still, "store")
    assert finding["state"] == "failed"
    assert f"{project.home}" in finding["detail"]
    assert "is not a folder" in finding["detail"]
    assert "STILLHOUSE_HOME" in finding["fix"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_home_that_cannot_be_locked(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    LocalStore(project.home).write_state("tiny", {"name": "tiny", "file": str(project.file)})
    monkeypatch.setattr(fcntl, "flock", refuse)
    for line in (["build", str(project.file)], ["down", "tiny"], ["gc"]):
        result = still(*line)
        assert result.code == 5, line
        assert "can lock files" in result.err
        assert "STILLHOUSE_HOME=" in result.err
    assert "can lock files" in of_doctor(still, "stored objects")["detail"]
    assert still("status").code == 0, "to look, nothing has to be locked"


def test_a_disk_that_gives_nothing_back(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    LocalStore(project.home).write_state("tiny", {"name": "tiny"})
    refuse(monkeypatch, Path, "read_text", lambda file: file.name == "state.json", errno.EIO)
    result = still("status")
    assert result.code == 5
    assert "the store cannot be read" in result.err
    assert "Input/output error" in result.err
    assert "fix:" in result.err
