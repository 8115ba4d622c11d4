"""A gate that shares texts with the training data is refused once both are imported, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.cli import Project


def test_shared_texts_are_told_before_the_training(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create_distilling()
    shared = json.loads((project.folder / "train.jsonl").read_text().splitlines()[4])["text"]
    with (project.folder / "gate.jsonl").open("a") as file:
        file.write(json.dumps({"query": "of its own", "document": f" {shared.upper()}"}) + "\n")
    project.still("lint", str(project.file))  # no two files are alike
    refused = project.still("build", str(project.file), code=2)
    assert "spec.gate.data: the data leaks: texts of spec.gate.data are also in spec.distill.data" in refused.stderr
    assert "1 of 61 rows; row 61 is row 5 of spec.distill.data" in refused.stderr
    states = {step["id"]: step["state"] for step in project.data("plan", str(project.file))["steps"]}
    assert {state for step, state in states.items() if step.startswith("resolve/")} == {"cached"}
    assert {state for step, state in states.items() if not step.startswith("resolve/")} == {"run"}


def test_a_validation_that_was_learned_from_or_judges_again_is_told_before_the_training_too(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create_distilling()
    rows = {name: json.loads((project.folder / f"{name}.jsonl").read_text().splitlines()[2]) for name in ("train", "gate")}
    project.edit(distill={**project.read()["spec"]["distill"], "validation": {"uri": "file://validation.jsonl"}})
    for name, text in (("gate", rows["gate"]["document"]), ("train", rows["train"]["text"])):
        (project.folder / "validation.jsonl").write_text(
            json.dumps({"text": "of its own"}) + "\n" + json.dumps({"text": text}) + "\n"
        )
        refused = project.still("build", str(project.file), code=2)
        judge, other = ("gate.data", "distill.validation") if name == "gate" else ("distill.validation", "distill.data")
        assert f"the data leaks: texts of spec.{judge} are also in spec.{other}" in refused.stderr
