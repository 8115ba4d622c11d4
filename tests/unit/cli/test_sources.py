"""What `still lint` and its kin say of a file's sources: all that is wrong, each with its line, before anything is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.cli import Project

from .conftest import Still

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create_distilling()


def line_of(project: Project, text: str) -> int:
    return next(number for number, line in enumerate(project.file.read_text().splitlines(), 1) if text in line)


# every source --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["lint", "plan", "build"])
def test_every_source_that_is_missing_is_named_with_its_line(still: Still, project: Project, command: str) -> None:
    for name in ("train", "gate"):
        (project.folder / f"{name}.jsonl").unlink()
    result = still(command, str(project.file))
    assert (result.code, result.out) == (2, "")
    for field, name in (("spec.distill.data.uri", "train.jsonl"), ("spec.gate.data.uri", "gate.jsonl")):
        assert f"{field} (line {line_of(project, name)}): nothing is there\n  found:   file://./{name}" in result.err


def test_two_fields_with_one_missing_source_are_both_named(still: Still, project: Project) -> None:
    project.edit(index={"data": {"uri": "file://./gate.jsonl"}})
    (project.folder / "gate.jsonl").unlink()
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "spec.gate.data.uri (line " in result.err
    assert "spec.index.data.uri (line " in result.err


def test_every_unbound_name_of_the_readme_is_told(still: Still) -> None:
    text = README.read_text().split("```yaml\n")[1].split("```")[0]
    Path("model.yaml").write_text(text)
    result = still("lint", "model.yaml")
    assert result.code == 2
    unbound = {name: number for number, line in enumerate(text.splitlines(), 1) for name in re.findall(r"uri: ([\w:-]+)", line)}
    assert len(unbound) >= 3
    for name, line in unbound.items():
        assert f"(line {line}): the named source is not bound to anything\n  found:   {name}\n" in result.err
        assert f'  fix:     add to the configuration under sources:  "{name}": "file://./PATH"' in result.err


def test_a_factory_is_looked_for_also_where_a_source_is_missing(still: Still, project: Project) -> None:
    (project.folder / "train.jsonl").unlink()
    project.edit(source={"factory": {"target": "nowhere_to_be_found:make"}})
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "spec.distill.data.uri (line " in result.err
    assert f"spec.source.factory.target (line {line_of(project, 'target:')}): " in result.err
