"""`examples/tumours`: a table's rows, an ONNX teacher, a student, and the gate that asks it through the real server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from examples._shared.progress import Progress
from examples.tumours.build_data import build
from examples.tumours.make_teacher import make

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tumours"


def still(folder, *words):
    env = {**os.environ, "STILLHOUSE_HOME": str(folder / "home")}
    line = [sys.executable, "-m", "stillhouse.entrypoints.cli", *words]
    done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_the_example_builds_a_revision_that_meets_its_gate(tmp_path):
    shutil.copyfile(EXAMPLE / "stillhouse.yaml", tmp_path / "stillhouse.yaml")
    resource = yaml.safe_load((EXAMPLE / "distilledmodel.yaml").read_text("utf-8"))
    del resource["spec"]["gate"]["maxLatencyP99"]  # a test must pass on a busy machine as well
    resource["spec"]["compress"] = {"precision": "int8"}
    resource["spec"]["distill"]["stages"][0]["epochs"] = 25
    del resource["spec"]["distill"]["validation"]
    resource["spec"]["gate"]["load"]["requests"] = 100
    resource["spec"]["gate"]["metrics"][0]["min"] = "80%"
    (tmp_path / "distilledmodel.yaml").write_text(yaml.safe_dump(resource), "utf-8")
    with Progress() as progress:
        build(tmp_path / "data", progress)
        right, rows, classes = make(tmp_path / "data", tmp_path / "teacher", progress)
    assert right / rows > 0.85
    assert classes == resource["spec"]["source"]["labels"], "in the order of the graph's outputs"
    revision = json.loads(still(tmp_path, "build", "distilledmodel.yaml", "-o", "json").stdout)
    assert revision["precision"] == "int8"
    assert revision["size"] < 64 * 1024
    assert revision["figures"]["agreement"]["n"] == 199
    signature = next(json.loads(path.read_text("utf-8")) for path in (tmp_path / "home").rglob("signature.json"))
    assert signature["features"]["columns"] == resource["spec"]["source"]["features"]["columns"]
