"""`examples/tumours`: a table's rows, an ONNX teacher, a student, and the gate that asks it through the real server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tumours"


def run(folder, *words, expect=0):
    env = {**os.environ, "STILLHOUSE_HOME": str(folder / "home")}
    done = subprocess.run([sys.executable, *map(str, words)], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
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
    run(tmp_path, EXAMPLE / "build_data.py", "--out", tmp_path / "data")
    run(tmp_path, EXAMPLE / "make_teacher.py", "--data", tmp_path / "data", "--out", tmp_path / "teacher")
    still = ("-m", "stillhouse.entrypoints.cli")
    revision = json.loads(run(tmp_path, *still, "build", "distilledmodel.yaml", "-o", "json").stdout)
    assert revision["precision"] == "int8"
    assert revision["size"] < 64 * 1024
    assert revision["figures"]["agreement"]["n"] == 199
    columns = resource["spec"]["source"]["features"]["columns"]
    signature = next(json.loads(path.read_text("utf-8")) for path in (tmp_path / "home").rglob("signature.json"))
    assert signature["features"]["columns"] == columns
    resource["spec"]["source"]["features"]["columns"] = [*columns[:-1], "worst fractal dimensions"]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(resource), "utf-8")
    said = run(tmp_path, *still, "plan", "wrong.yaml", expect=2).stderr
    assert "spec.source.features.columns" in said
    assert "did you mean worst fractal dimension?" in said
