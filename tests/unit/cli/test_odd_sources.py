"""Sources under odd names, in odd places, and such as may not be read: a user's mistake with its line, never a bug of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.cli import Project, write_model
from tests.support.refusals import refuse

from stillhouse.entrypoints.local.facts import model_info

from .conftest import Still


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create_distilling()


def refused(still: Still, project: Project, field: str, message: str) -> str:
    """Lint; the one mistake is `field`'s, with its line, as text and as data."""
    result = still("lint", str(project.file))
    assert (result.code, result.out) == (2, ""), result.err
    assert result.err.startswith(f"error: {project.file}: {field} (line ")
    assert f"): {message}\n" in result.err
    assert "  fix:     " in result.err
    (problem,) = json.loads(still("lint", "-o", "json", str(project.file)).out)["problems"]
    assert (problem["field"], problem["message"]) == (field, message)
    assert problem["line"]
    return result.err


def test_a_name_that_is_too_long(still: Still, project: Project) -> None:
    project.edit(distill={"data": {"uri": "file://./" + "x" * 300}})
    refused(still, project, "spec.distill.data.uri", "nothing is there")


def test_a_home_that_is_not_known(still: Still, project: Project) -> None:
    project.edit(source={"uri": "file://~nobody-of-this-name/m"})
    refused(still, project, "spec.source.uri", "the home folder of this user is not known")


@pytest.mark.parametrize("name", ["caf\udce9.safetensors", "caf\udce9/config.json"])
def test_a_name_that_is_no_utf8(still: Still, project: Project, name: str) -> None:
    path = project.folder / "bert" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    said = refused(still, project, "spec.source.uri", "the name of a file or folder is not UTF-8")
    assert r"found:   caf\udce9" in said


def test_rows_that_are_nested_too_deeply(still: Still, project: Project) -> None:
    (project.folder / "gate.jsonl").write_text('{"text": "a", "more": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    refused(still, project, "spec.gate.data.uri", "the data cannot be parsed")


def test_a_configuration_that_is_nested_too_deeply_tells_no_shape(project: Project) -> None:
    (project.folder / "bert" / "config.json").write_text("[" * 100_000 + "]" * 100_000)
    assert model_info(project.folder / "bert") == {"format": "safetensors"}


@pytest.mark.parametrize("name", ["bert", "train.jsonl"])
def test_what_may_not_be_read(still: Still, project: Project, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = project.folder / name
    refuse(monkeypatch, Path, "stat", lambda file: file == shut or shut in file.parents)
    field = "spec.source.uri" if name == "bert" else "spec.distill.data.uri"
    assert "ask its owner" in refused(still, project, field, "the source cannot be read")


def test_a_file_whose_digest_is_known_and_that_may_no_longer_be_read(
    still: Still, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = project.folder / "train.jsonl"
    assert still("lint", str(project.file)).code == 0
    refuse(monkeypatch, Path, "open", shut.__eq__)
    refused(still, project, "spec.distill.data.uri", "the source cannot be read")


def test_a_hidden_folder_that_may_not_be_entered_is_nobodys_business(
    still: Still, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = project.folder / "bert" / ".cache"
    shut.mkdir()
    (shut / "config.json").touch()
    refuse(monkeypatch, Path, "stat", lambda file: shut in file.parents)
    assert still("lint", str(project.file)).code == 0


# where things lie ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["a 50%25 off", "%7E", "[x]*?#"])
def test_a_settings_file_in_a_folder_with_signs_in_its_name(still: Still, tmp_path: Path, folder: str) -> None:
    project = Project(tmp_path / folder, tmp_path / "store", tmp_path / "cache").create(gate=False, index=False)
    result = still("lint", str(project.file))
    assert result.code == 0, result.err


@pytest.mark.parametrize("uri", ["file://~/my%20model", "~/my model"])
def test_a_home_folder_in_a_settings_file_and_on_the_command_line(
    still: Still, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_model(tmp_path / "home" / "my model")
    project = Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create(gate=False, index=False)
    settings = project.folder / "stillhouse.yaml"
    settings.write_text(f"sources: {{'models:tiny': '{uri}'}}")
    result = still("lint", str(project.file))
    assert result.code == 0, result.err
    settings.unlink()
    assert still("lint", str(project.file)).code == 2
    assert still("lint", "--source", f"models:tiny={uri}", str(project.file)).code == 0


def test_a_factory_is_looked_for_where_the_variable_says(
    still: Still, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLHOUSE_FACTORY_PATH", "")
    project.edit(source={"factory": {"target": "networks_of_elsewhere:make"}})
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "spec.source.factory.target (line " in result.err
    assert "or set STILLHOUSE_FACTORY_PATH" in result.err
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "networks_of_elsewhere.py").write_text("def make(dimension): ...\n")
    monkeypatch.setenv("STILLHOUSE_FACTORY_PATH", str(tmp_path / "nets"))
    result = still("lint", str(project.file))
    assert result.code == 0, result.err


def test_a_factory_that_may_not_be_read(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = project.folder / "shut_networks.py"
    shut.touch()
    monkeypatch.setenv("STILLHOUSE_FACTORY_PATH", "")
    project.edit(source={"factory": {"target": "shut_networks:make"}})
    refuse(monkeypatch, Path, "open", shut.__eq__)
    refused(still, project, "spec.source.factory.target", "the source cannot be read")
