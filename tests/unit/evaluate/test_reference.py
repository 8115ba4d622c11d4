"""What an ONNX teacher says of the gate's rows, where torch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file
from tests.support.tiny_model import write_tiny_model

from stillhouse.inference.engine import Engine

TEXTS = ["a file", "read the list of names", "write " * 40]

RUN = """
import json, sys
from pathlib import Path

for name in ("torch", "transformers"):
    sys.modules[name] = None  # importing it fails
from stillhouse.passes.base import Artifact, Context, SilentProgress
from stillhouse.passes.runner import load_pass

work = load_pass("onnx-teacher-reference")
folder = Path(sys.argv[1])
inputs = {
    "teacher": Artifact("sha256:1", "onnx-model", folder / "model", 1),
    "data": Artifact("sha256:2", "dataset", folder / "data", 1),
}
context = Context(folder / "out", folder / "scratch", 1, 0, SilentProgress())
facts = work.run(work.config_type.model_validate({"maxLength": None, "threads": 1}), inputs, context)
print(json.dumps([facts.rows, facts.truncated_rows, facts.truncated_tokens]))
"""


def test_an_onnx_teacher_answers_without_torch(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", max_length=8)
    for name in ("data", "out", "scratch"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "data/data.parquet")
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [3, 1, 34]
    answers = load_file(tmp_path / "out/outputs.safetensors")["text"]
    np.testing.assert_allclose(answers, Engine(tmp_path / "model").embed(TEXTS), atol=1e-6)
    assert json.loads((tmp_path / "out/measurement.json").read_text())["measures"] == "teacher-reference"
