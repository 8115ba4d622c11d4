"""Rows that are pooled, deduplicated and augmented, in a build as a user has it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.cli import Project, write_rows


def test_rows_that_are_held_out_are_left_out_and_the_rest_is_learned_from_with_its_copies(tmp_path: Path, cache: Path) -> None:
    with Project(tmp_path / "project", tmp_path / "store", cache).create_distilling().cleaned() as project:
        gate = json.loads((project.folder / "gate.jsonl").read_text().splitlines()[0])
        with (project.folder / "train.jsonl").open("a") as file:
            file.write(json.dumps({"text": f" {gate['document'].upper()}"}) + "\n")
        refused = project.still("build", str(project.file), code=2)
        assert "or have them left out: spec.distill.deduplicate: {}" in refused.stderr

        write_rows(project.folder / "more.jsonl", {"text": "text"}, 100, seed=9)
        project.edit(
            distill={
                "unlabelled": {"uri": "file://./more.jsonl"},
                "deduplicate": {},
                "augment": {"operations": [{"kind": "swap"}, {"kind": "delete"}]},
            }
        )
        built = project.still("build", str(project.file))
        assert "401 rows of data, 100 of the pool" in built.stderr
        assert "held out" in built.stderr
        assert "leakage: none between the splits (similarity above 0.8)" in built.stderr
        assert "done   train/data-report" in built.stderr
        told = built.stderr.index("leakage: none")
        assert told < built.stderr.index("train/teacher-outputs")
        again = project.still("build", str(project.file))
        assert "done   " not in again.stderr

        # Where nothing but the drawing changes, what was drawn before is kept.
        project.edit(distill={"augment": {"operations": [{"kind": "swap"}]}})
        states = {step["id"]: step["state"] for step in project.data("plan", str(project.file))["steps"]}
        assert (states["train/pooled"], states["train/deduplicated"], states["train/augmented"]) == ("cached", "cached", "run")
