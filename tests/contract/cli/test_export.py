"""`still export`: from a file to folders that another runtime reads, without a gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from tests.support.cli import Project

from stillhouse.api.export import ExportFormat
from stillhouse.entrypoints.commands.export import FORMATS


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path / "home", tmp_path / "cache").create(index=False)


def test_a_file_in_two_formats(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("export", str(project.file), "--format", "openvino", "--format", "tensorrt", "--dir", str(out), "-o", "json")
    done = project.still(*asked)
    assert done.returncode == 0, done.stderr
    made = {each["facts"]["format"]: each for each in json.loads(done.stdout)["exports"]}
    assert made["openvino"]["facts"]["checked"] == "run" and made["openvino"]["facts"]["rows"] > 32
    assert sorted(path.name for path in (out / "tiny-openvino").iterdir()) == [
        "export.json", "model.bin", "model.xml", "receipt.json", "signature.json", "tokenizer.json",
    ]  # fmt: skip
    receipt = json.loads((out / "tiny-tensorrt" / "receipt.json").read_bytes())
    assert receipt["digest"] == made["tensorrt"]["digest"]
    assert [each["name"] for each in receipt["lineage"]["sources"]] == ["source", "gate-data"]
    assert (out / "tiny-tensorrt" / "build-engine.sh").stat().st_mode & 0o111
    assert not list(project.home.joinpath("models").glob("*/state.json")), "no gate ran, and nothing serves"
    again = project.still(*asked)
    assert again.returncode == 0
    assert json.loads(again.stdout)["exports"][0]["digest"] == made["openvino"]["digest"]


def test_the_command_knows_every_format() -> None:
    assert get_args(ExportFormat) == FORMATS


def test_a_file_that_names_its_formats(project: Project) -> None:
    data = project.read()
    data["spec"]["export"] = [{"format": "tensorrt", "batch": 4, "tokens": 16}]
    project.write(data)
    done = project.still("export", str(project.file), "--dir", str(project.folder))
    assert done.returncode == 0, done.stderr
    assert "run build-engine.sh in it" in done.stdout
    assert "4x16" in (project.folder / "tiny-tensorrt" / "build-engine.sh").read_text()
    built = project.still("build", str(project.file))
    assert built.returncode == 0, built.stderr
    status = project.still("status", "tiny")
    assert "export-tensorrt" in status.stdout


def test_what_cannot_be_done_is_told_before_anything_is_made(project: Project, tmp_path: Path) -> None:
    taken = tmp_path / "tiny-openvino"
    taken.mkdir()
    (taken / "precious").write_text("mine")
    for words, said in (
        ((), "nothing says which format"),
        (("--tokens", "4"), "--tokens belongs to --format"),
        (("--format", "openvino", "--batch", "4"), "batch and tokens belong to formats of fixed shapes"),
        (("--format", "openvino", "--dir", str(tmp_path)), "something else is there"),
        (("--format", "coreml"), "made from a torch network"),
    ):
        done = project.still("export", str(project.file), *words, code=2)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert said in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
    assert (taken / "precious").read_text() == "mine"
