"""Every precision through the real server, which has a tiny model of each: made by the passes, asked as it is in process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.contract.export.test_static import network, written
from tests.support.artifacts import dataset, sentences, tiny_teacher
from tests.support.int8 import BITS
from tests.support.lessons import OUTPUTS, SHAPE, STAGE, go
from tests.support.triton import Site, running

from stillhouse.clients.triton import TritonClient
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.compress.dynamic import QuantizeDynamic
from stillhouse.passes.compress.halve import Halve
from stillhouse.passes.compress.int4 import QuantizeInt4
from stillhouse.passes.compress.levels import SensitivityMixed
from stillhouse.passes.compress.mixed import QuantizeMixed
from stillhouse.passes.compress.sensitivity import Sensitivity
from stillhouse.passes.compress.static import QuantizeStatic
from stillhouse.passes.compress.trained import QuantizeTrained
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.export.tidy import operator_counts
from stillhouse.triton.repository import LinkTo, Repository, render
from stillhouse.triton.runtimes import RUNTIMES
from stillhouse.triton.server import ServerHandle, ServerOptions
from stillhouse.triton.settings import ArtifactView, ServeSettings
from stillhouse.triton.writer import write

TEXTS = ["a file", "", "unseen Wörter", "return the current working directory of a file", *sentences(20, seed=5)]
OPERATORS = {
    "fp16": {"Cast"},
    "bf16": {"Cast"},
    "int8": {"DynamicQuantizeLinear"},
    "int8-mixed": {"DynamicQuantizeLinear", "MatMul"},
    "int8-static": {"QuantizeLinear"},
    "int8-static-mixed": {"QuantizeLinear", "MatMul"},
    "int8-qat": {"QuantizeLinear"},
    "int4": {"com.microsoft:MatMulNBits", "com.microsoft:GatherBlockQuantized"},
    "mixed": {"com.microsoft:GatherBlockQuantized", "DynamicQuantizeLinear"},
    "images": {"QuantizeLinear", "Conv"},
}
"""Precision → operators of its graph, without which it would be another one's; `images` is `int8-static` of convolutions."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A model of each precision, and what they were made of: `fp32`; `learned` for `int8-qat`."""
    folder = tmp_path_factory.mktemp("models")
    given = {"teacher": tiny_teacher(folder / "teacher"), "data": dataset(folder / "data", text=sentences(50, seed=1))}
    outputs, _ = go(TeacherOutputs(), OUTPUTS, given, folder / "outputs")
    student, _ = go(InitStudent(), {**SHAPE, "hiddenSize": 32, "init": "svd"}, given, folder / "student")
    lesson = {**given, "outputs": outputs, "student": student, "calibration": given["data"]}
    trained, _ = go(Distill(), {**STAGE, "epochs": 1, "quantize": {"samples": 12, **BITS}}, lesson, folder / "trained")
    quick = {"samples": 4, "quick": True}
    fp32, _ = go(ExportOnnx(), quick, {"model": student}, folder / "fp32")
    learned, _ = go(ExportOnnx(), quick, {"model": trained}, folder / "learned")
    rows = {"model": fp32, "data": given["data"]}
    damage, _ = go(Sensitivity(), {"samples": 8, **BITS}, rows, folder / "sensitivity")
    static, _ = go(Sensitivity(), {"samples": 8, "static": {}, **BITS}, rows, folder / "sensitivity-static")
    levels, _ = go(SensitivityMixed(), {"samples": 8, "layers": "int8", **BITS}, rows, folder / "sensitivity-mixed")
    pixels = np.random.default_rng(3).random((12, 3 * 64)).astype(np.float32)
    images = {
        "model": written(folder / "network", network(), image=True),
        "data": dataset(folder / "pixels", image=pixels.tolist()),
    }
    made = {"fp32": fp32, "learned": learned}
    for name, one, config, inputs in (
        ("fp16", Halve(), {}, {"model": fp32}),
        ("bf16", Halve(), {"to": "bf16"}, {"model": fp32}),
        ("int8", QuantizeDynamic(), BITS, {"model": fp32}),
        ("int8-mixed", QuantizeDynamic(), {"exclude": 3, **BITS}, {"model": fp32, "sensitivity": damage}),
        ("int8-static", QuantizeStatic(), {"samples": 12, **BITS}, rows),
        ("int8-static-mixed", QuantizeStatic(), {"samples": 12, "exclude": 3, **BITS}, {**rows, "sensitivity": static}),
        ("int8-qat", QuantizeTrained(), {"samples": 12, **BITS}, {"model": learned, "trained": trained, "data": given["data"]}),
        ("int4", QuantizeInt4(), {"samples": 8, "method": "gptq"}, rows),
        ("mixed", QuantizeMixed(), {"samples": 8, "maxLoss": 0.5, "layers": "int8", **BITS}, {**rows, "sensitivity": levels}),
        ("images", QuantizeStatic(), {"samples": 12, **BITS}, images),
    ):
        made[name], _ = go(one, config, inputs, folder / name)
    return made


@pytest.fixture(scope="module")
def server(models: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[ServerHandle]:
    """One server for all of them; it is not ready before each is loaded."""
    folder = tmp_path_factory.mktemp("server")
    files: dict[str, bytes | LinkTo] = {}
    for name in OPERATORS:
        model = models[name]
        signature = Signature.read(model.path)
        view = ArtifactView(name, model.digest, "main", name, signature, {path.name: path for path in model.path.iterdir()})
        files |= render(view, RUNTIMES["triton-ort-cpu"], ServeSettings(), 1)
    write(Repository(files), folder / "repository")
    options = ServerOptions("int8", folder / "repository", folder / "run", cache, start_timeout_s=120.0)
    with running(Site(models["int8"].path, Signature.read(models["int8"].path), options)) as handle:
        yield handle


@pytest.mark.parametrize("precision", OPERATORS)
def test_its_graph_is_of_that_precision(precision: str, models: dict[str, Artifact]) -> None:
    assert OPERATORS[precision] <= set(operator_counts(onnx.load(models[precision].path / "model.onnx")))


@pytest.mark.parametrize("precision", [name for name in OPERATORS if name != "images"])
def test_it_answers_as_in_process(precision: str, models: dict[str, Artifact], client: TritonClient) -> None:
    answer = client.infer_texts(precision, TEXTS, provenance=True)
    assert answer.embeddings is not None
    assert answer.provenance is not None
    np.testing.assert_allclose(answer.embeddings, Engine(models[precision].path).embed(TEXTS), atol=1e-5)
    assert {(row["precision"], row["digest"]) for row in answer.provenance} == {(precision, models[precision].digest)}
    # Near what it was made of, and not that under another name.
    plain = Engine(models["learned" if precision == "int8-qat" else "fp32"].path).embed(TEXTS)
    assert (answer.embeddings * plain).sum(1).min() > 0.95
    assert np.abs(answer.embeddings - plain).max() > 2e-5


def test_convolutions_in_static_int8_answer_as_in_process(models: dict[str, Artifact], client: TritonClient) -> None:
    pixels = np.random.default_rng(4).random((5, 3, 8, 8), dtype=np.float32)
    answer = client.infer_images("images", pixels)
    assert answer.probabilities is not None
    np.testing.assert_allclose(answer.probabilities, Engine(models["images"].path).predict_arrays(pixels), atol=1e-5)
