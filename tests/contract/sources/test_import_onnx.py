"""ONNX files from outside: what may come in, and every known way to reach out of the folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.artifacts import Recorder, context
from tests.support.source_folders import pinned, raised
from tests.support.tiny_model import write_tiny_model

from stillhouse.clients.sources.selection import EXTERNAL_DATA
from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.inference.signature import Signature
from stillhouse.passes.export.tidy import write_model
from stillhouse.passes.sources import onnx_file  # here: it takes the limit of `tidy`, which a test changes, when it is imported
from stillhouse.passes.sources.model import ImportModel, ImportModelConfig, ModelFacts


def run(source: Path, work: Path, **config: Any) -> tuple[ModelFacts, Path]:
    work.mkdir(exist_ok=True)
    ctx = dataclasses.replace(context(work), source=source)
    data = {"digest": pinned(source), "task": "sentence-embedding", **config}
    return ImportModel().run(ImportModelConfig.model_validate(data), {}, ctx), ctx.out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "model")
    (tmp_path / "model" / "signature.json").unlink()
    return tmp_path / "model"


def change(folder: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / "model.onnx")
    edit(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def external(folder: Path, **record: str) -> None:
    """Move the embedding table's bytes to `table.onnx_data` and let the record say what the test wants."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if item.name == "table")
        (folder / "table.onnx_data").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in record.items():
            tensor.external_data.add(key=key, value=value)

    change(folder, edit)


@pytest.mark.parametrize("as_file", [True, False])
def test_onnx_becomes_an_artifact_with_the_same_outputs(as_file: bool, folder: Path, tmp_path: Path) -> None:
    facts, out = run(folder / "model.onnx" if as_file else folder, tmp_path / "work", maxLength=16)
    assert (facts.kind, facts.dimension, facts.max_length) == ("onnx-model", 16, 16)
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "signature.json", "tokenizer.json"]
    feed = {"input_ids": np.array([[2, 5, 3]]), "attention_mask": np.ones((1, 3), np.int64)}
    before, after = (onnxruntime.InferenceSession(path / "model.onnx").run(None, feed)[0] for path in (folder, out))
    np.testing.assert_array_equal(before, after)
    assert Signature.read(out).dimension == 16


def test_classifier_takes_its_labels_from_the_configuration(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", task="text-classification", labels=("x", "y"))
    (tmp_path / "model" / "config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    facts, _ = run(tmp_path / "model" / "model.onnx", tmp_path / "work", task="text-classification")
    assert facts.labels == ("no", "yes")
    text = raised(
        SourceError, lambda: run(tmp_path / "model", tmp_path / "w2", task="text-classification", labels=("a", "b", "c"))
    )
    assert "3 labels" in text


def test_labels_are_counted_before_the_graph_is_written(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", task="text-classification", labels=("x", "y"))
    (tmp_path / "model" / "config.json").write_text(json.dumps({"id2label": {str(n): f"l{n}" for n in range(50_000)}}))
    text = raised(SourceError, lambda: run(tmp_path / "model", tmp_path / "work", task="text-classification"))
    assert "50000 labels, 2 outputs" in text
    assert not (tmp_path / "work" / "out" / "model.onnx").exists()


@pytest.mark.parametrize("value", [0, -4, "48", 1.5, True, [], [48], {}])
def test_positions_that_are_no_number(value: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": value}))
    text = raised(SourceError, lambda: run(folder, tmp_path / "work"))
    assert text.startswith("source.uri: config.json: max_position_embeddings: ")
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 20}))
    assert run(folder, tmp_path / "again")[0].max_length == 20


def test_image_model_with_its_own_input_name(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", task="image-classification", labels=("x", "y"))
    image = {"height": 8, "width": 8, "channels": 3}
    _, out = run(tmp_path / "model", tmp_path / "work", task="image-classification", labels=("x", "y"), image=image)
    signature = Signature.read(out)
    assert signature.inputs == ("pixels",)
    assert signature.image is not None
    assert signature.image.std == (1.0, 1.0, 1.0)


def test_output_gets_its_name_and_paths_of_the_machine_go(folder: Path, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "pooled"
        model.graph.node[-1].output[0] = "pooled"
        model.graph.node[0].doc_string = "/home/someone/train.py(3)"
        model.graph.node[0].metadata_props.add(key="trace", value="/home/someone/train.py")
        model.doc_string = "/home/someone"

    change(folder, edit)
    _, out = run(folder, tmp_path / "work")
    assert Signature.read(out).output == "sentence_embedding"
    assert b"/home" not in (out / "model.onnx").read_bytes()


@pytest.mark.parametrize("ending", EXTERNAL_DATA)
@pytest.mark.parametrize("as_file", [True, False])
def test_external_data_beside_the_model_is_taken_in(as_file: bool, ending: str, folder: Path, tmp_path: Path) -> None:
    external(folder, location=f"weights{ending}", offset="0")
    (folder / "table.onnx_data").rename(folder / f"weights{ending}")
    source = folder / "model.onnx" if as_file else folder
    before = pinned(source)
    _, out = run(source, tmp_path / "work")
    assert not any(tensor.external_data for tensor in onnx.load(out / "model.onnx", load_external_data=False).graph.initializer)
    with (folder / f"weights{ending}").open("r+b") as file:
        file.write(b"\0\0\0\1")
    assert pinned(source) != before, "other numbers are another source"


@pytest.mark.parametrize("name", ["table.bin", "table.data", "5f1c", "table.csv"])
@pytest.mark.parametrize("as_file", [True, False])
def test_external_data_that_the_digest_does_not_cover_is_refused(as_file: bool, name: str, folder: Path, tmp_path: Path) -> None:
    """Its numbers could change behind a result that is kept under the same digest."""
    external(folder, location=name)
    (folder / "table.onnx_data").rename(folder / name)
    text = raised(SourceError, lambda: run(folder / "model.onnx" if as_file else folder, tmp_path / "work"))
    assert "source.uri: tensor table: external data of the graph is in a file that does not count" in text
    assert f"found:   {name}\n" in text
    assert "NAME.onnx_data beside the .onnx file or a file NAME.onnx.data" in text
    onnx.save(onnx.load(folder / "model.onnx"), folder / "model.onnx")  # what the fix says
    run(folder / "model.onnx", tmp_path / "again")


@pytest.mark.parametrize(
    "record",
    [
        {"location": "../table.onnx_data"},
        {"location": "./table.onnx_data"},
        {"location": "sub/../../table.onnx_data"},
        {"location": "sub\\..\\table.onnx_data"},
        {"location": "/etc/hostname"},
        {"location": "C:table.onnx_data"},
        {"location": "linked.onnx_data"},
        {"location": "missing.onnx_data"},
        {"location": ""},
        {"location": ".."},
        {"offset": "0"},
        {"location": "table.onnx_data", "basepath": "/etc"},
        {"location": "table.onnx_data", "model_path": "x"},
    ],
)
def test_external_data_that_reaches_out(record: dict[str, str], folder: Path, tmp_path: Path) -> None:
    external(folder, **record)
    (tmp_path / "table.onnx_data").write_bytes((folder / "table.onnx_data").read_bytes())
    (folder / "linked.onnx_data").symlink_to("../table.onnx_data")
    raised(UnsafeSource, lambda: run(folder / "model.onnx", tmp_path / "work"))


def test_external_data_in_a_linked_folder(folder: Path, tmp_path: Path) -> None:
    external(folder, location="table.onnx_data")
    (folder / "table.onnx_data").rename(tmp_path / "table.onnx_data")
    (folder / "table.onnx_data").symlink_to(tmp_path / "table.onnx_data")
    raised(UnsafeSource, lambda: run(folder, tmp_path / "work"))


def test_a_key_given_twice(folder: Path, tmp_path: Path) -> None:
    external(folder, location="table.onnx_data")
    change(folder, lambda model: model.graph.initializer[0].external_data.add(key="location", value="../x") and None)
    raised(UnsafeSource, lambda: run(folder, tmp_path / "work"))


@pytest.mark.parametrize(
    "record",
    [
        {"offset": "4"},
        {"offset": "-4"},
        {"offset": "999999999999999999999"},
        {"length": "4"},
        {"length": "99999999"},
        {"offset": "0x0"},
        {"length": "٣"},
    ],
)
def test_external_data_beyond_its_file(record: dict[str, str], folder: Path, tmp_path: Path) -> None:
    external(folder, location="table.onnx_data", **record)
    raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_external_data_hidden_in_a_subgraphs_constant(folder: Path, tmp_path: Path) -> None:
    inner = numpy_helper.from_array(np.ones(3, np.float32), "inner")
    inner.ClearField("raw_data")
    inner.data_location = TensorProto.EXTERNAL
    inner.external_data.add(key="location", value="../secret")
    constant = helper.make_node("Constant", [], ["c"])
    constant.attribute.append(helper.make_attribute("value", inner))
    out = helper.make_tensor_value_info("c", TensorProto.FLOAT, [3])
    branch = helper.make_graph([constant], "branch", [], [out])
    change(
        folder,
        lambda model: model.graph.node.append(
            helper.make_node("If", ["condition"], ["unused"], then_branch=branch, else_branch=branch)
        ),
    )
    raised(UnsafeSource, lambda: run(folder, tmp_path / "work"))


def test_operators_of_unknown_domains(folder: Path, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.node[-1].domain = "com.example"
        model.opset_import.append(helper.make_opsetid("com.example", 1))

    change(folder, edit)
    assert "com.example::LpNormalization" in raised(UnsafeSource, lambda: run(folder, tmp_path / "work"))


def test_operators_of_unknown_domains_inside_functions(folder: Path, tmp_path: Path) -> None:
    inner = helper.make_node("Evil", ["x"], ["y"], domain="com.example")
    function = helper.make_function("", "Wrap", ["x"], ["y"], [inner], [helper.make_opsetid("com.example", 1)])
    change(folder, lambda model: model.functions.append(function))
    raised(UnsafeSource, lambda: run(folder, tmp_path / "work"))


def test_operator_that_onnx_does_not_know(folder: Path, tmp_path: Path) -> None:
    change(folder, lambda model: setattr(model.graph.node[-1], "op_type", "LpNormalisation"))
    assert "LpNormalisation" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_opset_of_the_future(folder: Path, tmp_path: Path) -> None:
    change(folder, lambda model: setattr(model.opset_import[0], "version", 99))
    assert "opset 99" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04."])
def test_files_that_are_no_onnx(content: bytes, folder: Path, tmp_path: Path) -> None:
    (folder / "model.onnx").write_bytes(content)
    raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_truncated_file(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.onnx").read_bytes()
    for share in (0.3, 0.6, 0.95):
        (folder / "model.onnx").write_bytes(whole[: int(len(whole) * share)])
        raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_graph_whose_inputs_are_no_texts(folder: Path, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = model.graph.node[0].input[1] = "tokens"

    change(folder, edit)
    assert "tokens" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_tokenizer_with_more_ids_than_the_graph_has_embeddings(folder: Path, tmp_path: Path) -> None:
    """The graph is not to blame: it is never run with ids that it has no rows for."""
    data = json.loads((folder / "tokenizer.json").read_text())
    rows = len(data["model"]["vocab"])
    data["model"]["vocab"]["more"] = rows
    (folder / "tokenizer.json").write_text(json.dumps(data))
    text = raised(SourceError, lambda: run(folder, tmp_path / "work"))
    assert "tokenizer does not fit the model" in text
    assert f"token ids up to {rows}, {rows} rows of embeddings" in text
    (folder / "config.json").write_text(json.dumps({"vocab_size": rows + 1}))  # what a file beside the graph says is no proof
    assert "tokenizer does not fit the model" in raised(SourceError, lambda: run(folder, tmp_path / "again"))


def test_a_graph_that_is_too_large_is_given_advice_that_is_possible(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillhouse.passes.export.tidy.MAX_BYTES", 512)
    text = raised(SourceError, lambda: run(folder, tmp_path / "work"))
    assert text.startswith("source.uri: the model is too large")
    assert "KiB" in text
    assert "one in safetensors can be distilled" in text


def test_several_graphs_need_a_choice(folder: Path, tmp_path: Path) -> None:
    (folder / "other.onnx").write_bytes((folder / "model.onnx").read_bytes())
    assert "other.onnx" in raised(SourceError, lambda: run(folder, tmp_path / "work"))
    run(folder / "other.onnx", tmp_path / "work")


def large(folder: Path, rows: int = 1 << 16) -> None:
    """Let the graph carry a table of its own that counts as large."""
    table = np.zeros((rows, 16), dtype=np.float32)
    change(folder, lambda model: model.graph.initializer.append(numpy_helper.from_array(table, "large")))


def test_the_checker_never_holds_all_weights_at_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large(folder)
    sizes = []
    check = onnx.checker.check_model

    def checking(model: onnx.ModelProto) -> None:
        sizes.append(len(model.SerializeToString()))
        check(model)

    monkeypatch.setattr(onnx_file.onnx.checker, "check_model", checking)
    work, told = tmp_path / "work", Recorder()
    work.mkdir()
    ctx = dataclasses.replace(context(work, told), source=folder)
    config = {"digest": pinned(folder), "task": "sentence-embedding"}
    ImportModel().run(ImportModelConfig.model_validate(config), {}, ctx)
    assert len(sizes) == 1
    assert sizes[0] < 1 << 20 < (folder / "model.onnx").stat().st_size
    assert [(done, total) for done, total, unit, message in told.updates if message == "checking the graph"] == [(1, 1)]


def test_a_large_tensor_with_too_few_bytes_is_found(folder: Path, tmp_path: Path) -> None:
    large(folder)

    def cut(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if item.name == "large")
        tensor.raw_data = tensor.raw_data[:-4]

    change(folder, cut)
    assert "a graph that onnx.checker accepts" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


@pytest.mark.parametrize("task", ["sentence-embedding", "text-classification"])
def test_a_graph_written_in_parts_has_the_bytes_of_one_written_whole(task: str, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", task=task, labels=() if task == "sentence-embedding" else ("x", "y"))
    large(tmp_path / "model")
    model = onnx.load(tmp_path / "model" / "model.onnx")
    model.doc_string, model.model_version = "about", 3
    model.metadata_props.add(key="a", value="b")
    model.graph.doc_string = "about"
    model.graph.value_info.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2]))
    size = write_model(model, tmp_path / "written.onnx")
    written = (tmp_path / "written.onnx").read_bytes()
    assert size == len(written)
    assert written == model.SerializeToString(deterministic=True)
