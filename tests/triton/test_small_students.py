"""A student that is no transformer, in INT8, through the real server: the LSTM, whose operators are the runtime's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.support.artifacts import dataset, sentences, tiny_teacher
from tests.support.lessons import go
from tests.support.triton import Site, running

from stillhouse.clients.triton import TritonClient
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Signature
from stillhouse.passes.compress.dynamic import QuantizeDynamic
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.triton.repository import render
from stillhouse.triton.runtimes import RUNTIMES
from stillhouse.triton.server import ServerOptions
from stillhouse.triton.settings import ArtifactView, ServeSettings
from stillhouse.triton.writer import write


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BiLSTM of a tiny teacher, quantized."""
    folder = tmp_path_factory.mktemp("student")
    inputs = {
        "teacher": tiny_teacher(folder / "teacher"),
        "data": dataset(folder / "data", text=sentences(40, seed=1)),
    }
    made, _ = go(InitStudent(), {"architecture": "bilstm", "hiddenSize": 24, "seed": 3}, inputs, folder / "student")
    exported, _ = go(ExportOnnx(), {"samples": 4, "quick": True}, {"model": made}, folder / "exported")
    small, facts = go(QuantizeDynamic(), {"recurrent": True}, {"model": exported}, folder / "int8")
    assert facts["operators"]["com.microsoft:DynamicQuantizeLSTM"] == 2
    return small.path


def test_it_is_served_like_any_other(student: Path, tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(student, folder)
    signature = Signature.read(folder)
    view = ArtifactView("tiny", "sha256:00ff", "main", "int8", signature, {path.name: path for path in folder.iterdir()})
    write(render(view, RUNTIMES["triton-ort-cpu"], ServeSettings(), 2), tmp_path / "repository")
    options = ServerOptions("tiny", tmp_path / "repository", tmp_path / "run", cache, digest=view.digest, start_timeout_s=60.0)
    texts = ["a file", "return the current working directory of a file", "read", *sentences(12, seed=5)]
    with running(Site(folder, signature, options)) as server, TritonClient(server.address) as client:
        answer = client.infer_texts("tiny", texts)
    assert answer.embeddings is not None
    engine = Engine(folder)
    np.testing.assert_allclose(answer.embeddings, engine.embed(texts), atol=1e-5)
    # In INT8 the rows of a run share a scale: near to what each alone gives, and not the same.
    alone = np.concatenate([engine.embed([text]) for text in texts])
    assert (answer.embeddings * alone).sum(1).min() > 0.99
