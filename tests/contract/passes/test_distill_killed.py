"""kill -9 in the middle of training: the next attempt goes on, and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.artifacts import context, dataset, sentences, tiny_teacher
from tests.support.lessons import go

from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill

STAGE = {
    "stage": "soft",
    "losses": [
        {"kind": "embedding", "weightCourse": {"to": 0.5, "shape": "cosine"}},
        {"kind": "hidden", "weight": 0.2, "layer": 3},
    ],
    "epochs": 24,
    "batchSize": 8,
    "learningRate": 0.003,
    "maxLength": 32,
    "checkpointSteps": 20,
    "seed": 5,
    "progressive": "stacked",
    "freeze": {"embeddings": True},
    "earlyStopping": {"patience": 30, "minGain": 0.05},  # the best epoch is not the last: it has to be kept
    "prune": {"weights": 0.6, "by": "movement", "recovery": 0.3},  # masks, scores and what is behind the masks too
}
RUN = """
import json, sys
from pathlib import Path
from tests.support.lessons import go
from tests.support.artifacts import artifact, context
from stillhouse.passes.distill.train import Distill
root = Path(sys.argv[1])
kinds = {"teacher": "torch-model", "student": "torch-model", "data": "dataset", "outputs": "teacher-outputs"}
kinds["validation"] = "dataset"
inputs = {role: artifact(Path(path), kinds[role]) for role, path in json.loads(sys.argv[2]).items()}
Distill().run(Distill.config_type.model_validate(json.loads(sys.argv[3])), inputs, context(root))
"""


def test_killed_training_goes_on_with_the_same_result(tmp_path):
    import json

    teacher = tiny_teacher(tmp_path / "teacher")
    data = dataset(tmp_path / "data", text=sentences(80, seed=2))
    inputs = {"teacher": teacher, "data": data}
    for role, one, config in (
        ("outputs", TeacherOutputs(), {"outputs": ["embedding", "hidden"], "layers": [3], "maxLength": 32}),
        ("student", InitStudent(), {"hiddenLayers": 2, "hiddenSize": 16, "attentionHeads": 2, "seed": 3}),
    ):
        inputs[role], _ = go(one, config, {"teacher": teacher, "data": data}, tmp_path / role)
    inputs["validation"] = data
    whole = context(tmp_path / "whole")
    expected = Distill().run(Distill.config_type.model_validate(STAGE), inputs, whole)

    paths = {role: str(found.path) for role, found in inputs.items()}
    root = Path(__file__).parents[3]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "operator"), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", RUN, str(tmp_path / "cut"), json.dumps(paths), json.dumps(STAGE)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    scratch = tmp_path / "cut" / "scratch"
    try:
        deadline = time.monotonic() + 120
        while not list(scratch.glob("checkpoint-*")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert process.returncode == -signal.SIGKILL, "training was over before it could be killed"

    cut = context(tmp_path / "cut")
    facts = Distill().run(Distill.config_type.model_validate(STAGE), inputs, cut)
    assert facts.resumed == 1
    assert facts.curve == expected.curve
    assert facts.validation == expected.validation
    assert 0 < facts.best_epoch == expected.best_epoch < len(facts.validation)
    assert (cut.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
