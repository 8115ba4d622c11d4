"""The smoke test: `examples/digits` whole, through the command line, from its builders to an accepted revision."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"


def run(folder, *words, expect=0):
    env = {**os.environ, "STILLHOUSE_HOME": str(folder / "home")}
    done = subprocess.run([sys.executable, *map(str, words)], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("digits")
    for name in ("students.py", "stillhouse.yaml"):
        shutil.copyfile(EXAMPLE / name, made / name)
    resource = yaml.safe_load((EXAMPLE / "distilledmodel.yaml").read_text("utf-8"))
    del resource["spec"]["gate"]["maxLatencyP99"]  # a test must pass on a busy machine as well
    (made / "distilledmodel.yaml").write_text(yaml.safe_dump(resource), "utf-8")
    run(made, EXAMPLE / "build_data.py", "--out", made / "data")
    run(made, EXAMPLE / "make_teacher.py", "--data", made / "data", "--out", made / "teacher")
    return made


def still(folder, *words, expect=0):
    return run(folder, "-m", "stillhouse.entrypoints.cli", *words, expect=expect)


def test_the_example_builds_a_revision_that_meets_its_gate_and_builds_it_once(folder):
    revision = json.loads(still(folder, "build", "distilledmodel.yaml", "-o", "json").stdout)
    assert revision["name"] == "digits"
    assert revision["precision"] in {"int8-static", "int8-static-mixed", "int8", "int8-mixed", "fp32"}
    assert revision["size"] < 100 * 1024
    figures = revision["figures"]
    assert figures["agreement"]["low"] >= 0.85
    assert figures["agreement"]["n"] == 270
    again = still(folder, "build", "distilledmodel.yaml", "-o", "json")
    assert json.loads(again.stdout)["digest"] == revision["digest"]
    assert "cached" in again.stderr
    receipts = [json.loads(path.read_text("utf-8")) for path in (folder / "home" / "steps").glob("*.json")]
    stages = {receipt["facts"]["stage"]: receipt["facts"] for receipt in receipts if receipt["pass_name"] == "distill"}
    assert set(stages) == {"soft", "hard"}
    assert stages["soft"]["validation"][-1] > stages["soft"]["validation"][0]


def test_a_changed_factory_is_another_teacher(folder):
    """The weights belong to the code that they were trained with: its digest is part of the step."""
    before = json.loads(still(folder, "plan", "distilledmodel.yaml", "-o", "json").stdout)
    path = folder / "students.py"
    path.write_text(path.read_text("utf-8") + "\n# another line\n", "utf-8")
    after = json.loads(still(folder, "plan", "distilledmodel.yaml", "-o", "json").stdout)
    assert before["planHash"] != after["planHash"]


def test_images_of_another_shape_are_refused_with_the_field(folder):
    text = (folder / "distilledmodel.yaml").read_text("utf-8").replace("height: 8", "height: 16")
    (folder / "wrong.yaml").write_text(text, "utf-8")
    said = still(folder, "build", "wrong.yaml", expect=2).stderr
    assert "Traceback" not in said
    assert "spec.source.image" in said
