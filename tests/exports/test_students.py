"""Students of every kind for LiteRT and Core ML, by their real converters (`make test-exports`)."""

import json

import pytest
from tests.support.artifacts import dataset, sentences, tiny_teacher
from tests.support.features import COLUMNS, LABELS, STAGE, imported, linear, series, table, write_table
from tests.support.lessons import go
from tests.support.small_students import KINDS

from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.export.to_coreml import ToCoreMl
from stillhouse.passes.export.to_litert import ToLiteRt
from stillhouse.passes.sources.data import ImportData
from stillhouse.passes.sources.model import ImportModel

ENCODER = {"hiddenLayers": 2, "hiddenSize": 16, "attentionHeads": 2, "intermediateSize": 32, "maxLength": 32}
TEXT_STUDENTS = {
    **KINDS,
    "encoder": {**ENCODER, "init": "svd"},
    "residual": {**ENCODER, "architecture": "residual", "init": "static"},
}
FEATURE_STUDENTS = {
    "table": {"architecture": "mlp", "hiddenSize": 16},
    "series": {"architecture": "cnn", "hiddenSize": 16},
}


@pytest.fixture(scope="session")
def lesson(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lesson")
    given = {"teacher": tiny_teacher(folder / "teacher"), "data": dataset(folder / "data", text=sentences(60, seed=1))}
    outputs = {"outputs": ["embedding"], "maxLength": 32, "layers": []}
    return {**given, "outputs": go(TeacherOutputs(), outputs, given, folder / "outputs")[0]}


@pytest.fixture(scope="session", params=TEXT_STUDENTS)
def text(request, lesson, tmp_path_factory):
    """An untrained student of texts, its graph, and rows."""
    folder = tmp_path_factory.mktemp(request.param)
    network = go(InitStudent(), {**TEXT_STUDENTS[request.param], "seed": 3}, lesson, folder / "student")[0]
    graph = go(ExportOnnx(), {"samples": 4, "quick": True}, {"model": network}, folder / "graph")[0]
    return {"network": network, "model": graph, "data": lesson["data"]}


@pytest.fixture(scope="session", params=FEATURE_STUDENTS)
def features(request, tmp_path_factory):
    """A student of a table or of windows, which standardises inside, trained a little; its graph, and rows."""
    folder = tmp_path_factory.mktemp(request.param)
    is_table = request.param == "table"
    values, labels = table() if is_table else series()
    about = {"columns": list(COLUMNS)} if is_table else {"length": values.shape[1], "channels": values.shape[2]}
    path = write_table(folder / "rows.parquet", values, labels) if is_table else None
    if path is None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = folder / "rows.parquet"
        pq.write_table(pa.table({"window": values.tolist(), "kind": labels}), path)
    columns = {"label": "kind"} if is_table else {"label": "kind", "features": "window"}
    model = folder / "teacher.onnx"
    model.write_bytes(linear(values, labels, ("label", "probabilities")).SerializeToString())
    task = "tabular-classification" if is_table else "time-series-classification"
    given = {
        "teacher": imported(ImportModel(), folder / "teacher", model, task=task, labels=LABELS, features=about),
        "data": imported(ImportData(), folder / "data", path, columns=columns, features=about),
    }
    given["outputs"] = go(TeacherOutputs(), {"outputs": ["logits"]}, given, folder / "outputs")[0]
    given["student"] = go(InitStudent(), {**FEATURE_STUDENTS[request.param], "seed": 3}, given, folder / "student")[0]
    network = go(Distill(), {**STAGE, "epochs": 2, "seed": 3}, given, folder / "trained")[0]
    graph = go(ExportOnnx(), {"samples": 4, "quick": True}, {"model": network}, folder / "graph")[0]
    return {"network": network, "model": graph, "data": given["data"]}


def test_litert_answers_as_onnx_does(text, tmp_path):
    _, facts = go(ToLiteRt(), {"batch": 2, "tokens": 12}, text, tmp_path)
    assert facts["checked"] == "run" and facts["rows"] >= 32
    assert facts["max_abs_error"] < 1e-4
    assert facts["min_cosine"] > 0.9999
    assert (tmp_path / "out" / "model.tflite").read_bytes()[4:8] == b"TFL3"


@pytest.mark.parametrize("rows", [1, 3])
def test_litert_answers_as_onnx_does_of_features(features, tmp_path, rows):
    _, facts = go(ToLiteRt(), {"batch": rows}, features, tmp_path)
    assert facts["checked"] == "run" and facts["rows"] >= 32
    assert facts["max_abs_error"] < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_coreml_has_the_models_inputs_and_output(text, tmp_path, precision):
    _, facts = go(ToCoreMl(), {"tokens": 12, "precision": precision}, text, tmp_path)
    assert facts["checked"] == "structure" and facts["operators"] > 5
    assert facts["inputs"][0] == "input_ids int32 [1, 12]"
    assert json.loads((tmp_path / "out" / "model.mlpackage" / "Manifest.json").read_text())["itemInfoEntries"]


def test_coreml_has_the_features_as_input(features, tmp_path):
    _, facts = go(ToCoreMl(), {}, features, tmp_path)
    assert facts["checked"] == "structure" and facts["operators"] > 3
    assert len(facts["inputs"]) == 1 and "float32 [1, " in facts["inputs"][0]
