"""Tables and time series keep the passes' contract: imported, taught, standardised inside the graph, compressed, asked."""

import dataclasses
import shutil

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper
from tests.support.artifacts import artifact
from tests.support.features import CHANNELS, COLUMNS, LABELS, LENGTH, ROWS, STAGE, imported, linear, series, table, write_table
from tests.support.int8 import BITS
from tests.support.lessons import go

from stillhouse.errors import DataError, SourceError
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import FeatureSpec, Signature
from stillhouse.passes.compress.dynamic import QuantizeDynamic
from stillhouse.passes.compress.halve import Halve
from stillhouse.passes.compress.static import QuantizeStatic
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.evaluate.disjoint import check_disjoint
from stillhouse.passes.evaluate.reference import OnnxTeacherReference, TeacherReference
from stillhouse.passes.evaluate.rows import read_rows
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.models.artifact import load
from stillhouse.passes.sources.data import ImportData
from stillhouse.passes.sources.model import ImportModel
from stillhouse.planning.students import form_of, small_macs


@pytest.fixture(scope="module", params=["table", "series"])
def made(request, tmp_path_factory):
    """Data, teacher (an ONNX file) and what it says, of tables and of series."""
    folder = tmp_path_factory.mktemp(request.param)
    is_table = request.param == "table"
    values, labels = table() if is_table else series()
    features = {"columns": list(COLUMNS)} if is_table else {"length": LENGTH, "channels": CHANNELS}
    if is_table:
        path, columns = write_table(folder / "rows.csv", values, labels), {"label": "kind"}
    else:
        path, columns = folder / "rows.parquet", {"features": "window"}
        pq.write_table(pa.table({"window": values.tolist(), "label": labels}), path)
    data = imported(ImportData(), folder / "data", path, columns=columns, features=features)
    model = folder / "teacher.onnx"
    model.write_bytes(linear(values, labels, ("label", "probabilities")).SerializeToString())
    task = "tabular-classification" if is_table else "time-series-classification"
    teacher = imported(ImportModel(), folder / "teacher", model, task=task, labels=LABELS, features=features)
    inputs = {"teacher": teacher, "data": data}
    inputs["outputs"], _ = go(TeacherOutputs(), {"outputs": ["logits"]}, inputs, folder / "outputs")
    return inputs, values, labels, features


def test_data_is_read_as_it_is(made):
    inputs, values, labels, _ = made
    data = inputs["data"]
    assert (data.facts["rows"], data.facts["columns"]) == (ROWS, ["features", "label"])
    assert data.facts["classes"] == {name: labels.count(name) for name in LABELS}
    assert data.facts["unused"] == (["note"] if values.ndim == 2 else [])
    signature = Signature.read(inputs["teacher"].path)
    rows = read_rows(data, signature)
    np.testing.assert_array_equal(rows.arrays, values)
    assert rows.tensor == "FEATURES"
    with pytest.raises(DataError, match="leaks"):
        check_disjoint({"data": data, "training": data})


def test_a_graph_that_says_probabilities_teaches(made, tmp_path):
    inputs, values, labels, _ = made
    _, told = go(TeacherOutputs(), {"outputs": ["logits"]}, inputs, tmp_path / "again")
    assert told["precision"] == "float32", "a graph reckons as it was written, whatever the processor has"
    engine = Engine(inputs["teacher"].path)
    assert (engine.signature.inputs, engine.signature.output, engine.signature.labels) == (("X",), "logits", LABELS)
    answers = engine.predict_arrays(values)
    assert np.mean([LABELS[each] for each in answers.argmax(1)] == np.array(labels)) > 0.85
    scores = onnx.load(inputs["teacher"].path / "model.onnx")
    assert [each.op_type for each in scores.graph.node][-2:] == ["Max", "Log"], "a softmax of them gives the probabilities back"
    reference, facts = go(OnnxTeacherReference(), {}, {"teacher": inputs["teacher"], "data": inputs["data"]}, tmp_path)
    assert (facts["rows"], facts["dimension"]) == (ROWS, 2)
    from safetensors.numpy import load_file

    logits = load_file(reference.path / "outputs.safetensors")["logits"]
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), answers, atol=1e-5)


@pytest.fixture(scope="module")
def taught(made, tmp_path_factory):
    """Students of the teacher, trained and exported: architecture → (student, trained, exported)."""
    inputs, values, _, _ = made
    found = {}
    for kind in ("mlp",) if values.ndim == 2 else ("mlp", "cnn"):
        folder = tmp_path_factory.mktemp(kind)
        config = {"architecture": kind, "hiddenLayers": 2 if kind == "mlp" else 1, "seed": 3, "init": "random"}
        config |= {"hiddenSize": 48} if kind == "mlp" else {"channels": [8, 16], "separable": True}
        student, facts = go(InitStudent(), config, inputs, folder / "student")
        assert (facts["architecture"], facts["init"]) == (kind, "random")
        trained, _ = go(Distill(), STAGE, {**inputs, "student": student, "validation": inputs["data"]}, folder / "trained")
        exported, facts = go(ExportOnnx(), {"samples": 4, "quick": True}, {"model": trained}, folder / "exported")
        found[kind] = (config, student, trained, exported, facts)
    return found


def test_students_learn_from_raw_numbers_and_standardise_inside_the_graph(made, taught):
    _, values, labels, features = made
    for kind, (config, student, trained, exported, facts) in taught.items():
        signature = Signature.read(exported.path)
        assert signature.inputs == ("features",)
        spec = signature.features
        assert spec is not None
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        np.testing.assert_allclose(spec.mean, flat.mean(0), rtol=1e-5)
        wanted = np.where(flat.std(0) > np.abs(flat.mean(0)) * 1e-6, flat.std(0), 1.0)
        np.testing.assert_allclose(spec.std, wanted, rtol=1e-4)
        body = load(trained.path).body
        np.testing.assert_array_equal(body.mean.numpy(), np.float32(spec.mean), "training changes no statistics")
        np.testing.assert_array_equal(load(student.path).body.deviation.numpy(), np.float32(spec.std))
        answers = Engine(exported.path).predict_arrays(values)
        right = np.mean(np.array(LABELS)[answers.argmax(1)] == np.array(labels))
        assert right > 0.85, kind
        last = config.get("channels", [config.get("hiddenSize")])[-1]
        assert facts["macs"]["row"] == small_macs(config, form_of({"features": features})) + last * 2


def test_a_student_may_be_of_any_rows_of_a_batch(made, taught):
    _, values, _, _ = made
    for *_, exported, _ in taught.values():
        engine = Engine(exported.path)
        together = engine.predict_arrays(values[:9])
        alone = np.concatenate([engine.predict_arrays(values[row : row + 1]) for row in range(9)])
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_they_are_compressed_as_others_are(made, taught, tmp_path):
    inputs, values, _, _ = made
    for kind, (*_, exported, _) in taught.items():
        whole = Engine(exported.path).predict_arrays(values)
        ways = {
            "dynamic": (QuantizeDynamic(), BITS, {"model": exported}),
            "static": (QuantizeStatic(), {"samples": 64, **BITS}, {"model": exported, "data": inputs["data"]}),
            "half": (Halve(), {}, {"model": exported}),
        }
        for name, (one, config, given) in ways.items():
            if (kind, name) in {("cnn", "half"), ("cnn", "dynamic")}:  # no table of it is worth halving, no product is
                continue
            small, _ = go(one, config, given, tmp_path / kind / name)
            answers = Engine(small.path).predict_arrays(values)
            assert np.mean(answers.argmax(1) == whole.argmax(1)) > 0.95, (kind, name)


def test_what_is_pruned_is_smaller_and_answers(made, taught, tmp_path):
    inputs, values, _, _ = made
    for kind, (_, student, *_, facts) in taught.items():
        prune = {"neurons" if kind == "mlp" else "channels": 0.25, "by": "magnitude", "recovery": 0.5}
        given = {**inputs, "student": student}
        trained, _ = go(Distill(), {**STAGE, "epochs": 2, "prune": prune}, given, tmp_path / kind / "trained")
        exported, smaller = go(ExportOnnx(), {"samples": 4, "quick": True}, {"model": trained}, tmp_path / kind / "exported")
        assert smaller["parameters"] < facts["parameters"]
        assert Engine(exported.path).predict_arrays(values[:3]).shape == (3, 2)


def test_a_torch_student_teaches_the_next(made, taught, tmp_path):
    inputs, *_ = made
    trained = taught["mlp"][2]
    given = {"teacher": trained, "data": inputs["data"]}
    given["outputs"], _ = go(TeacherOutputs(), {"outputs": ["logits", "features"]}, given, tmp_path / "outputs")
    config = {"architecture": "mlp", "hiddenSize": 8, "init": "random"}
    given["student"], _ = go(InitStudent(), config, given, tmp_path / "student")
    losses = [{"kind": "pooled"}, {"kind": "logits", "temperature": 2.0, "alpha": 1.0}]
    _, facts = go(Distill(), {**STAGE, "losses": losses, "epochs": 1}, given, tmp_path / "trained")
    assert set(facts["losses"]) == {"pooled", "logits"}


def test_a_missing_value_names_row_and_column(tmp_path):
    values, labels = table(20)
    text = write_table(tmp_path / "rows.csv", values, labels).read_text("utf-8").splitlines()
    cells = text[7].split(",")
    text[7] = ",".join([cells[0], "", *cells[2:]])
    (tmp_path / "rows.csv").write_text("\n".join(text) + "\n", "utf-8")
    with pytest.raises(DataError) as caught:
        imported(
            ImportData(), tmp_path / "w", tmp_path / "rows.csv", columns={"label": "kind"}, features={"columns": list(COLUMNS)}
        )
    assert caught.value.problem.found == "nothing in row 7, column share"


def test_a_table_is_the_same_in_csv_and_parquet_whatever_its_first_rows_look_like(tmp_path):
    values, labels = table(12)
    values[:, 1] = [3] * 11 + [0.5]  # a parser that guesses takes these for whole numbers
    made = [
        imported(
            ImportData(),
            tmp_path / suffix,
            write_table(tmp_path / f"rows.{suffix}", values, labels),
            columns={"label": "kind"},
            features={"columns": list(COLUMNS)},
        )
        for suffix in ("csv", "parquet")
    ]
    assert made[0].facts["content"] == made[1].facts["content"]


def test_graphs_that_are_no_classifier_of_such_rows_are_refused(tmp_path):
    values, labels = table(30)
    model = linear(values, labels, ("label", "probabilities"))
    del model.graph.output[:]
    model.graph.output.extend([helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])])
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    zipped = onnx.ModelProto()
    zipped.CopyFrom(model)
    zipped.graph.node.append(
        helper.make_node("ZipMap", ["probabilities"], ["zipped"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    )
    zipped.graph.output.append(helper.make_value_info("zipped", maps))
    zipped.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    for name, (one, says) in {"label": (model, "no output that can be"), "zipped": (zipped, "ZipMap")}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(one.SerializeToString())
        with pytest.raises(SourceError) as caught:
            imported(
                ImportModel(),
                tmp_path / name,
                path,
                task="tabular-classification",
                labels=LABELS,
                features={"columns": list(COLUMNS)},
            )
        assert says in f"{caught.value.problem.message} {caught.value.problem.fix}"


def test_weights_without_a_factory_are_refused(tmp_path):
    from safetensors.numpy import save_file

    (tmp_path / "net").mkdir()
    save_file({"w": np.zeros((2, 2), np.float32)}, tmp_path / "net" / "model.safetensors")
    with pytest.raises(SourceError) as caught:
        imported(
            ImportModel(),
            tmp_path / "w",
            tmp_path / "net",
            task="tabular-classification",
            labels=LABELS,
            features={"columns": ["a"]},
        )
    assert "factory" in caught.value.problem.fix


def test_a_window_of_another_length_is_refused(made, tmp_path):
    inputs, _, _, _ = made
    other = dataclasses.replace(Signature.read(inputs["teacher"].path), features=FeatureSpec((3, 3)))
    with pytest.raises(DataError, match="features have another size"):
        read_rows(inputs["data"], dataclasses.replace(other, task="time-series-classification"))


def rewritten(data, folder, change):
    """The data of a pass with other features; `change` alters them in place, each row's numbers side by side."""
    shutil.copytree(data.path, folder)
    read = pq.read_table(folder / "data.parquet")
    place = read.column_names.index("features")
    values = np.asarray(read.column(place).to_pylist(), np.float32)
    change(values)
    field = read.schema.field(place)
    rows = pa.array(values.tolist(), field.type)
    pq.write_table(read.set_column(place, field, rows), folder / "data.parquet")
    return artifact(folder, data.kind, data.facts)


def test_a_column_of_subnormal_numbers_is_a_constant(made, tmp_path):
    inputs, values, _, _ = made

    def faint(rows):
        first = rows[:, :: values.shape[-1]]
        first[:] = np.random.default_rng(1).normal(0, 1e-42, first.shape)

    config = {"architecture": "mlp", "hiddenLayers": 1, "seed": 3, "init": "random", "hiddenSize": 8}
    data = rewritten(inputs["data"], tmp_path / "faint", faint)
    student, _ = go(InitStudent(), config, {**inputs, "data": data}, tmp_path / "student")
    assert load(student.path).body.deviation[0] == 1
    assert torch.isfinite(load(student.path)(torch.from_numpy(values[:8]))).all(), "a row of ordinary numbers too"


def test_values_that_are_not_finite_are_refused_with_their_row(made, taught, tmp_path):
    inputs, *_ = made
    _, student, *_ = taught["mlp"]

    def endless(rows):
        rows[7] = 3.4e38

    data = rewritten(inputs["data"], tmp_path / "endless", endless)
    with pytest.raises(DataError, match="the student gives values that are not finite") as caught:
        go(Distill(), {**STAGE, "epochs": 1}, {**inputs, "student": student, "validation": data}, tmp_path / "trained")
    assert (caught.value.problem.field, caught.value.problem.found) == ("validation.uri", "NaN or infinity for row 8")
    with pytest.raises(DataError, match="the teacher gives values that are not finite") as caught:
        go(TeacherOutputs(), {"outputs": ["logits"]}, {"teacher": taught["mlp"][2], "data": data}, tmp_path / "outputs")
    assert (caught.value.problem.field, caught.value.problem.found) == ("data.uri", "NaN or infinity for row 8")
    assert "look at row 8" in caught.value.problem.fix
    with pytest.raises(DataError, match="the teacher gives values that are not finite") as caught:
        go(TeacherReference(), {}, {"teacher": taught["mlp"][2], "data": data}, tmp_path / "reference")
    assert (caught.value.problem.field, caught.value.problem.found) == ("data.uri", "NaN or infinity for row 8")
