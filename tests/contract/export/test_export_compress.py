"""A tiny BERT through export, sensitivity and INT8; and what the figures must be by hand."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.artifacts import Recorder, artifact, context, dataset
from tests.support.source_folders import WORDS, pinned, raised, write_bert_folder

from stillhouse.errors import SourceError, SpecError
from stillhouse.inference.signature import FeatureSpec, Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.compress.dynamic import QuantizeConfig, QuantizeDynamic
from stillhouse.passes.compress.quantize import quantizable, quantize
from stillhouse.passes.compress.sensitivity import Sensitivity, SensitivityConfig, damage
from stillhouse.passes.compress.static import QuantizeStatic, QuantizeStaticConfig
from stillhouse.passes.export.candidates import candidates, choose
from stillhouse.passes.export.macs import count_macs, count_parameters
from stillhouse.passes.export.onnx import ExportConfig, ExportOnnx
from stillhouse.passes.export.samples import feed
from stillhouse.passes.export.tidy import operator_counts
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.models.artifact import save
from stillhouse.passes.models.factory import FACTORY_PATH_VARIABLE, source_digest
from stillhouse.passes.models.factory import call as factory_call
from stillhouse.passes.models.network import Network
from stillhouse.passes.sources.model import ImportModel, ImportModelConfig

LAYERS, HIDDEN = 2, 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("model")
    source = write_bert_folder(folder / "source", layers=LAYERS, hidden=HIDDEN)
    ctx = dataclasses.replace(context(folder), source=source)
    ImportModel().run(ImportModelConfig(digest=pinned(source), task="sentence-embedding"), {}, ctx)
    return artifact(ctx.out, "torch-model")


@pytest.fixture(scope="module")
def exported(model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Any]:
    heard = Recorder()
    ctx = context(tmp_path_factory.mktemp("export"), heard)
    facts = ExportOnnx().run(ExportConfig(), {"model": model}, ctx)
    (note,) = heard.notes
    assert re.match(
        r"of 3 ONNX exports one is taken that none clearly beats: 1 row of \d+ tokens in [\d.]+ ms \(fp32\), 8 rows of ", note
    )
    assert "{" not in note
    assert {(done, unit) for done, _, unit, message in heard.updates if message.startswith("exporting: ")} == {(0, "")}
    return artifact(ctx.out, "onnx-model"), facts


@pytest.fixture(scope="module")
def every(model: Artifact) -> dict[str, Any]:
    made, refused = candidates(
        model.path, Signature.read(model.path), len(WORDS), opset=17, samples=16, threads=1, report=lambda name: None
    )
    assert not refused
    return made


def test_exported_graph_is_one_valid_file_that_equals_the_network(model: Artifact, exported: tuple[Artifact, Any]) -> None:
    import torch

    from stillhouse.passes.models.artifact import load

    made, facts = exported
    assert sorted(path.name for path in made.path.iterdir()) == ["model.onnx", "signature.json", "tokenizer.json"]
    onnx.checker.check_model(made.path / "model.onnx")
    assert Signature.read(made.path) == Signature.read(model.path)
    session = onnxruntime.InferenceSession(made.path / "model.onnx")
    assert [value.name for value in session.get_outputs()] == ["sentence_embedding"]
    network = load(model.path)
    signature = Signature.read(model.path)
    for batch, length in ((1, 1), (5, 3), (2, 48), (7, 20)):
        tensors = feed(signature, batch, length, len(WORDS), seed=batch)
        with torch.inference_mode():
            want = network(*(torch.from_numpy(value) for value in tensors.values())).numpy()
        found = session.run(None, tensors)[0]
        np.testing.assert_allclose(found, want, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert facts.max_abs_error < 1e-5
    assert facts.min_cosine > 0.99999
    assert facts.parity_rows >= 32
    assert set(facts.latency_ms) == {"legacy", "legacy-plain", "dynamo"}
    assert all(set(times) == {"fp32", "int8"} for times in facts.latency_ms.values())
    assert facts.exporter in facts.latency_ms


def test_rows_of_a_batch_do_not_see_each_other(exported: tuple[Artifact, Any]) -> None:
    session = onnxruntime.InferenceSession(exported[0].path / "model.onnx")
    alone = {"input_ids": np.array([[2, 5, 3]]), "attention_mask": np.ones((1, 3), np.int64)}
    ids, mask = np.zeros((2, 9), np.int64), np.zeros((2, 9), np.int64)
    ids[0, :3], mask[0, :3] = (2, 5, 3), 1
    ids[1], mask[1] = 7, 1
    together = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    np.testing.assert_allclose(together[0], session.run(None, alone)[0][0], atol=1e-5)


def test_legacy_graph_is_fused_and_every_graph_is_clean(every: dict[str, Any]) -> None:
    counts = operator_counts(every["legacy"].model)
    assert counts["com.microsoft:Attention"] >= LAYERS
    assert counts["com.microsoft:SkipLayerNormalization"] >= LAYERS
    assert counts["com.microsoft:EmbedLayerNormalization"] == 1
    assert set(every) == {"legacy", "legacy-plain", "dynamo"}
    for candidate in every.values():
        data = candidate.model.SerializeToString()
        assert b"site-packages" not in data
        assert str(Path.home()).encode() + b"/" not in data
        assert b".py" not in data
        assert not candidate.model.graph.value_info
        names = [node.name for node in candidate.model.graph.node]
        assert all(names)
        assert len(set(names)) == len(names)


def test_export_gives_the_same_bytes_again_and_says_what_it_does(model: Artifact, every: dict[str, Any]) -> None:
    told: list[str] = []
    again, _ = candidates(model.path, Signature.read(model.path), len(WORDS), opset=17, samples=1, threads=1, report=told.append)
    for name, candidate in every.items():
        assert candidate.model.SerializeToString(deterministic=True) == again[name].model.SerializeToString(deterministic=True)
        # Each may take a while for a large graph, so none goes by the name of what was done before it.
        place = told.index(f"{name}, fusing")
        assert told[place : place + 3] == [f"{name}, fusing", f"{name}, checking", f"{name}, comparing with the network"]


def test_macs_are_those_of_the_formula_in_every_graph(model: Artifact, every: dict[str, Any]) -> None:
    signature = Signature.read(model.path)
    for length in (1, 7, 40):
        linear = LAYERS * length * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * 2 * HIDDEN)
        products = LAYERS * 2 * length * length * HIDDEN
        for name, candidate in every.items():
            tensors = feed(signature, 1, length, len(WORDS))
            assert count_macs(candidate.model, tensors) == linear + products, name
            if length == 7:
                small = quantize(candidate.model, per_channel=True, reduce_range=False)
                assert count_macs(small, tensors) == linear + products, f"{name} INT8"
                assert count_macs(candidate.model, feed(signature, 3, length, len(WORDS))) == 3 * (linear + products)


def test_embeddings_are_counted_apart(every: dict[str, Any]) -> None:
    tables = (len(WORDS) + 48 + 2) * HIDDEN
    for name in ("legacy", "dynamo"):
        parameters = count_parameters(every[name].model)
        # Exporters that know that all token types are 0 keep that row only.
        assert parameters.embedding in (tables, tables - HIDDEN, tables - 2 * HIDDEN), name
        assert parameters.without_embedding >= LAYERS * (4 * HIDDEN * HIDDEN + 4 * HIDDEN * HIDDEN)


def test_macs_of_convolutions_and_gemm_by_hand() -> None:
    weights = {"w": np.ones((8, 1, 3, 3), np.float32), "g": np.ones((5, 8), np.float32), "p": np.ones((2, 8, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=4),
        helper.make_node("Conv", ["c", "p"], ["unused"]),
        helper.make_node("GlobalAveragePool", ["c"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 4, 6, 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    pixels = {"x": np.zeros((2, 4, 6, 5), np.float32)}
    assert count_macs(made, pixels) == 2 * (8 * 30 * 9 + 2 * 30 * 8 + 8 * 5)


def test_choice_is_the_fastest_precision_and_a_tie_goes_to_the_fused_graph() -> None:
    def times(fp32: float, int8: float | None) -> dict[str, dict[str, float]]:
        both = {"fp32": {"1": fp32, "8": fp32 * 4}}
        return both if int8 is None else {**both, "int8": {"1": int8, "8": int8 * 4}}

    assert choose({"legacy": times(10, 5), "dynamo": times(8, 4)}) == "dynamo"
    assert choose({"legacy": times(10, 4.3), "dynamo": times(8, 4)}) == "legacy"
    assert choose({"legacy": times(10, 5), "legacy-plain": times(9, 4.3), "dynamo": times(8, 4)}) == "legacy-plain"
    assert choose({"legacy": times(10, 4), "dynamo": times(5, None)}) == "legacy"
    assert choose({"dynamo": times(5, None)}) == "dynamo"


def test_a_difference_that_cannot_be_measured_chooses_nothing() -> None:
    def times(legacy: float, dynamo: float) -> dict[str, dict[str, dict[str, float]]]:
        return {"dynamo": {"fp32": {"1": dynamo}}, "legacy": {"fp32": {"1": legacy}}}

    for legacy, dynamo in ((0.0096, 0.0093), (0.0093, 0.0096), (0.0096, 0.0076)):
        assert choose(times(legacy, dynamo)) == "legacy", "the call is timed, not the graph"
    assert choose(times(5, 4), times(5.1, 4), times(4.9, 4.1)) == "dynamo"
    assert choose(times(5, 4), times(5.6, 3.9), times(4.1, 4)) == "legacy", "half of the rounds know no difference"


def sensitivity(exported: Artifact, data: Artifact, folder: Path, progress: Recorder | None = None) -> tuple[Artifact, Any]:
    ctx = context(folder, progress)
    facts = Sensitivity().run(SensitivityConfig(samples=12, top=3), {"model": exported, "data": data}, ctx)
    return artifact(ctx.out, "measurement"), facts


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Artifact]:
    texts = [" ".join(WORDS[4 + (number + step) % (len(WORDS) - 4)] for step in range(3 + number % 5)) for number in range(40)]
    yield dataset(tmp_path / "data", text=texts)


def test_sensitivity_orders_all_operators_and_goes_on_where_it_stopped(
    exported: tuple[Artifact, Any], data: Artifact, tmp_path: Path
) -> None:
    operators = quantizable(onnx.load(exported[0].path / "model.onnx"))
    with pytest.raises(KeyboardInterrupt):
        sensitivity(exported[0], data, tmp_path / "s", Recorder(stop_at=2, unit="operators"))
    kept = json.loads((tmp_path / "s" / "scratch" / "measured.json").read_text())
    assert len(kept) == 2
    first = next(iter(kept))
    (tmp_path / "s" / "scratch" / "measured.json").write_text(json.dumps({**kept, first: [123.0, 456.0]}))
    made, facts = sensitivity(exported[0], data, tmp_path / "s")
    order = json.loads((made.path / "measurement.json").read_text())["operators"]
    assert {item["name"] for item in order} == {operator.name for operator in operators}
    assert [item["damage"] for item in order] == sorted((item["damage"] for item in order), reverse=True)
    assert order[0]["name"] == first, "what an earlier attempt had measured is not measured again"
    assert len(facts.top) == 3
    assert (facts.measured, facts.unmeasured, facts.rows) == (len(operators), (), 12)


def int8(source: Artifact, folder: Path, measured: Artifact | None = None, **config: Any) -> tuple[Artifact, Any]:
    ctx = context(folder)
    inputs = {"model": source, **({"sensitivity": measured} if measured else {})}
    facts = QuantizeDynamic().run(QuantizeConfig(**config), inputs, ctx)
    return artifact(ctx.out, "onnx-model"), facts


def test_int8_is_a_working_model_and_leaves_out_the_most_sensitive(
    exported: tuple[Artifact, Any], data: Artifact, tmp_path: Path
) -> None:
    source = exported[0]
    whole, facts = int8(source, tmp_path / "whole")
    onnx.checker.check_model(whole.path / "model.onnx")
    assert facts.size == (whole.path / "model.onnx").stat().st_size
    assert facts.kept == ()
    assert facts.weights_quantized == facts.weights
    assert facts.min_cosine_random > 0.9
    graph = onnx.load(whole.path / "model.onnx").graph
    floats = {item.name: numpy_helper.to_array(item).size for item in graph.initializer if item.data_type == TensorProto.FLOAT}
    assert max(floats.values()) < HIDDEN * HIDDEN, "no weight matrix is left in FP32"
    measured, _ = sensitivity(source, data, tmp_path / "s")
    order = [item["name"] for item in json.loads((measured.path / "measurement.json").read_text())["operators"]]
    mixed, facts = int8(source, tmp_path / "mixed", measured, exclude=2)
    assert facts.kept == tuple(order[:2])
    assert set(facts.quantized) == set(order[2:])
    reference, full, part = (
        onnxruntime.InferenceSession(item.path / "model.onnx").run(None, feed(Signature.read(source.path), 8, 12, len(WORDS)))[0]
        for item in (source, whole, mixed)
    )
    assert not np.array_equal(full, reference)
    assert not np.array_equal(part, full)
    assert damage("sentence-embedding", reference, part).mean() <= damage("sentence-embedding", reference, full).mean()
    assert facts.size > (whole.path / "model.onnx").stat().st_size


def test_int8_is_the_same_bytes_again_and_seven_bits_are_others(exported: tuple[Artifact, Any], tmp_path: Path) -> None:
    first, second = (int8(exported[0], tmp_path / name)[0] for name in "ab")
    seven = int8(exported[0], tmp_path / "c", reduceRange=True)[0]
    assert (first.path / "model.onnx").read_bytes() == (second.path / "model.onnx").read_bytes()
    assert (first.path / "model.onnx").read_bytes() != (seven.path / "model.onnx").read_bytes()
    values = [
        np.abs(numpy_helper.to_array(item).astype(int)).max()
        for item in onnx.load(seven.path / "model.onnx").graph.initializer
        if item.data_type == TensorProto.INT8 and len(item.dims) == 2
    ]
    assert values
    assert max(values) <= 64


def test_fused_attention_takes_ranges_of_calibration(
    every: dict[str, Any], model: Artifact, data: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "fused"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(every["legacy"].model.SerializeToString())
    for name in ("signature.json", "tokenizer.json"):
        (folder / name).write_bytes((model.path / name).read_bytes())
    inputs = {"model": artifact(folder, "onnx-model"), "data": data}
    facts = QuantizeStatic().run(QuantizeStaticConfig(samples=16), inputs, context(tmp_path / "static"))
    assert facts.operators["com.microsoft:QAttention"] == LAYERS
    assert facts.operators["com.microsoft:QEmbedLayerNormalization"] == 1
    assert not {"com.microsoft:Attention", "DynamicQuantizeLinear", "MatMul"} & set(facts.operators)
    assert facts.balanced
    assert facts.weights_quantized == facts.weights
    assert facts.min_cosine_random > 0.9


def test_leaving_out_needs_a_measurement(exported: tuple[Artifact, Any], tmp_path: Path) -> None:
    assert "compress.keepFp32" in raised(SpecError, lambda: int8(exported[0], tmp_path / "x", exclude=1))


def test_one_operator_at_least_is_quantized(exported: tuple[Artifact, Any], data: Artifact, tmp_path: Path) -> None:
    measured, _ = sensitivity(exported[0], data, tmp_path / "s")
    _, facts = int8(exported[0], tmp_path / "x", measured, exclude=1000)
    assert len(facts.quantized) == 1


def test_graph_with_nothing_to_quantize(tmp_path: Path) -> None:
    from tests.support.tiny_model import write_tiny_model

    write_tiny_model(tmp_path / "tiny")  # its table is too small to be worth it
    made = artifact(tmp_path / "tiny", "onnx-model", {"exporter": "legacy"})
    assert 'set spec.compress.precision to "fp32"' in raised(SourceError, lambda: int8(made, tmp_path / "x"))
    given = artifact(tmp_path / "tiny", "onnx-model", {"kind": "onnx-model"})
    message = raised(SourceError, lambda: int8(given, tmp_path / "y"))
    assert "spec.compress.precision" in message
    assert "fix:     give the model as safetensors" in message
    assert '"fp32"' not in message, "planning refuses fp32 for ONNX sources"


def test_damage_is_zero_for_equal_rows_and_infinite_for_nan() -> None:
    rows = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    for task in ("sentence-embedding", "text-classification"):
        np.testing.assert_allclose(damage(task, rows, rows), 0, atol=1e-12)
        assert np.isinf(damage(task, rows, np.full_like(rows, np.nan))).all()
    p, q = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    want = float((p * np.log(p / q)).sum())
    found = damage("text-classification", np.log(p)[None].astype(np.float32), np.log(q)[None].astype(np.float32))
    assert found[0] == pytest.approx(want, abs=1e-6)


def test_a_factorys_network_that_cannot_be_exported_is_the_factorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FACTORY_PATH_VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "odd.py").write_text(
        "import torch\nclass Odd(torch.nn.Linear):\n    def forward(self, x):\n"
        "        return torch.linalg.svd(super().forward(x).unsqueeze(-1))[0].sum(-1)[..., :3]\n"
        "def make(): return Odd(4, 3)\n"
    )
    call = FactoryCall(target="odd:make", digest=source_digest("odd:make"))
    signature = Signature(
        task="tabular-classification", inputs=("features",), output="logits", dimension=3, max_length=0, labels=("x", "y", "z"),
        features=FeatureSpec((4,), tuple("abcd")),
    )  # fmt: skip
    (tmp_path / "model").mkdir()
    save(Network(factory_call(call), Architecture(kind="factory", factory=call), signature), tmp_path / "model")
    with pytest.raises(SourceError) as caught:
        ExportOnnx().run(
            ExportConfig(samples=2), {"model": artifact(tmp_path / "model", "torch-model")}, context(tmp_path / "out")
        )
    problem = caught.value.problem
    assert problem.field == "model.factory"
    assert "aten::linalg_svd" in problem.found and "No ONNX function found" in problem.found
    assert "Next steps" not in problem.found and "\n" not in problem.found
    assert "factory" in problem.fix
    assert capfd.readouterr().out == "", "torch prints no graph"
