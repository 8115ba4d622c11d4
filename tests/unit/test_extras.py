"""What is to be typed where an optional part is missing: a line that works today, from where this installation came."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from stillhouse import extras


class Installed:
    def __init__(self, text: str | None) -> None:
        self.text = text

    def read_text(self, name: str) -> str | None:
        return self.text if name == "direct_url.json" else None


def line(monkeypatch: pytest.MonkeyPatch, direct: Any) -> str:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(direct))
    return extras.install("mqtt")


def test_a_clone_or_a_wheel_is_named_as_it_was_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    wheel = tmp_path / "stillhouse-0.1.0-py3-none-any.whl"
    wheel.touch()
    editable = line(monkeypatch, json.dumps({"url": clone.as_uri(), "dir_info": {"editable": True}}))
    assert shlex.split(editable) == ["pip", "install", "-e", f"{clone}[mqtt]"]
    assert line(monkeypatch, json.dumps({"url": clone.as_uri(), "dir_info": {}})) == f"pip install '{clone}[mqtt]'"
    assert line(monkeypatch, json.dumps({"url": wheel.as_uri(), "archive_info": {}})) == f"pip install '{wheel}[mqtt]'"


def test_what_came_from_elsewhere_keeps_its_url_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = {"url": "https://git.example/stillhouse.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    assert line(monkeypatch, json.dumps(direct)) == "pip install 'stillhouse[mqtt] @ git+https://git.example/stillhouse.git@abc'"
    wheel = {"url": "https://files.example/stillhouse.whl", "archive_info": {}}
    assert line(monkeypatch, json.dumps(wheel)) == "pip install 'stillhouse[mqtt] @ https://files.example/stillhouse.whl'"


@pytest.mark.parametrize("written", [None, "", "no JSON", "[]", '{"url": "file:///nowhere/any/more"}'])
def test_where_nothing_is_known_the_clone_that_runs_is_named(monkeypatch: pytest.MonkeyPatch, written: str | None) -> None:
    root = Path(extras.__file__).resolve().parents[2]
    assert line(monkeypatch, written) == f"pip install '{root}[mqtt]'"


def test_without_a_clone_the_reader_is_told_to_name_one(tmp_path: Path) -> None:
    assert extras.requirement("serve", {}, tmp_path) == "/path/to/stillhouse[serve]"
