"""A tiny BERT in INT4 and in mixed precisions, of every graph that it can be exported to; and what cannot be made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.artifacts import Recorder, artifact, context, dataset
from tests.support.source_folders import WORDS, pinned, raised, write_bert_folder

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.compress.blocks import rounded
from stillhouse.passes.compress.gptq import gptq
from stillhouse.passes.compress.int4 import Int4Config, QuantizeInt4
from stillhouse.passes.compress.levels import LevelsConfig, SensitivityMixed
from stillhouse.passes.compress.mixed import MixedConfig, QuantizeMixed
from stillhouse.passes.compress.quantize import quantizable
from stillhouse.passes.compress.sensitivity import damage
from stillhouse.passes.compress.weights import operators, parts, plain, row_block, with_blocks
from stillhouse.passes.export.candidates import candidates
from stillhouse.passes.export.exporters import EXPORTERS
from stillhouse.passes.export.samples import feed
from stillhouse.passes.export.tidy import operator_counts
from stillhouse.passes.export.timing import open_session
from stillhouse.passes.sources.model import ImportModel, ImportModelConfig

TEXTS = [" ".join(WORDS[4 + (number + step) % (len(WORDS) - 4)] for step in range(3 + number % 5)) for number in range(40)]


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Return graph → the FP32 model."""
    folder = tmp_path_factory.mktemp("model")
    source = write_bert_folder(folder / "source", layers=1, hidden=64)
    ctx = dataclasses.replace(context(folder), source=source)
    ImportModel().run(ImportModelConfig(digest=pinned(source), task="sentence-embedding"), {}, ctx)
    signature = Signature.read(ctx.out)
    with pytest.MonkeyPatch.context() as patch:  # the other exporter's graph is as the plain one here, and takes seconds
        patch.setattr("stillhouse.passes.export.candidates.EXPORTERS", {"legacy": EXPORTERS["legacy"]})
        made, _ = candidates(ctx.out, signature, len(WORDS), opset=17, samples=4, threads=1, report=lambda name: None)
    found = {}
    for name, each in made.items():
        target = folder / name
        target.mkdir()
        onnx.save(each.model, target / "model.onnx")
        (target / "tokenizer.json").write_bytes((ctx.out / "tokenizer.json").read_bytes())
        signature.write(target)
        found[name] = artifact(target, "onnx-model", {"exporter": name})
    return found


@pytest.fixture
def data(tmp_path: Path) -> Artifact:
    return dataset(tmp_path / "data", text=TEXTS)


def answers(folder: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    found: np.ndarray = session.run(None, feed(Signature.read(folder), 8, 12, len(WORDS)))[0]
    return found


def int4(source: Artifact, folder: Path, data: Artifact | None = None, **config: Any) -> tuple[Artifact, Any]:
    ctx = context(folder)
    facts = QuantizeInt4().run(Int4Config(**config), {"model": source, **({"data": data} if data else {})}, ctx)
    return artifact(ctx.out, "onnx-model"), facts


def test_every_weight_of_every_graph_becomes_int4(every: dict[str, Artifact], data: Artifact, tmp_path: Path) -> None:
    assert {"legacy", "legacy-plain"} == set(every)
    for name, source in every.items():
        made, facts = int4(source, tmp_path / name, data, method="gptq")
        graph = onnx.load(made.path / "model.onnx")
        onnx.checker.check_model(graph)
        counts = operator_counts(graph)
        assert counts["com.microsoft:MatMulNBits"] >= 4, name
        assert counts["com.microsoft:GatherBlockQuantized"] >= 1, name
        assert (counts.get("com.microsoft:MultiHeadAttention", 0) == 1) == (name == "legacy"), "there attention was fused"
        assert facts.kept == ()
        floats = [np.prod(each.dims) for each in graph.graph.initializer if each.data_type == TensorProto.FLOAT]
        assert max(floats) < 1024, "no weight matrix is left in FP32"
        assert facts.size == (made.path / "model.onnx").stat().st_size < 0.6 * facts.size_before
        assert damage("sentence-embedding", answers(source.path), answers(made.path)).mean() < 0.05, name
        assert sorted(each.name for each in made.path.iterdir()) == ["model.onnx", "signature.json", "tokenizer.json"]


@pytest.mark.parametrize(("config", "level"), [({}, 4), ({"activations": "int8"}, 4), ({"activations": "fp32"}, 1)])
def test_every_layer_says_what_it_computes_in(config: Any, level: int, every: dict[str, Artifact], tmp_path: Path) -> None:
    """`accuracy_level` as ONNX Runtime's operator documents it: 1 is float32, 4 is int8."""
    made, _ = int4(every["legacy"], tmp_path, **config)
    layers = [node for node in onnx.load(made.path / "model.onnx").graph.node if node.op_type == "MatMulNBits"]
    assert len(layers) >= 4
    told = [[each.i for each in node.attribute if each.name == "accuracy_level"] for node in layers]
    assert told == [[level]] * len(layers)


def test_what_was_fused_is_the_same_written_out(every: dict[str, Artifact]) -> None:
    model = onnx.load(every["legacy"].path / "model.onnx")
    names = {each.name for each in operators(model)}
    assert names == {each.name for each in quantizable(model)}
    made = plain(model, names)
    assert not {"Attention", "EmbedLayerNormalization"} & {node.op_type for node in made.graph.node}
    signature = Signature.read(every["legacy"].path)
    for batch, length in ((1, 1), (4, 9), (3, 48)):
        tensors = feed(signature, batch, length, len(WORDS), seed=batch)
        want, found = (open_session(each.SerializeToString(), 1).run(None, tensors)[0] for each in (model, made))
        np.testing.assert_allclose(found, want, atol=1e-5)


def test_mixed_precisions_are_within_the_loss_and_larger_where_less_may_be_lost(
    every: dict[str, Artifact], data: Artifact, tmp_path: Path
) -> None:
    inputs = {"model": every["legacy"], "data": data}
    with pytest.raises(KeyboardInterrupt):
        SensitivityMixed().run(LevelsConfig(samples=12), inputs, context(tmp_path / "s", Recorder(stop_at=2, unit="operators")))
    kept = json.loads((tmp_path / "s" / "scratch" / "levels.json").read_text())
    assert len(kept) == 2
    ctx = context(tmp_path / "s")
    facts = SensitivityMixed().run(LevelsConfig(samples=12), inputs, ctx)
    assert (facts.unmeasured, facts.rows) == ((), 12)
    inputs["sensitivity"] = artifact(ctx.out, "measurement")
    sizes = []
    assert loss_by_layers(inputs, tmp_path) == {"int8"}
    for loss in (0.9, 0.002, 0.0001):
        ctx = context(tmp_path / f"{loss}")
        found = QuantizeMixed().run(MixedConfig(samples=12, max_loss=loss), inputs, ctx)
        assert found.loss <= loss
        assert onnxruntime.InferenceSession(ctx.out / "model.onnx")
        sizes.append(found.size)
    assert sizes[0] < sizes[1] < sizes[2]
    message = raised(
        SourceError, lambda: QuantizeMixed().run(MixedConfig(samples=12, max_loss=1e-9), inputs, context(tmp_path / "n"))
    )
    assert "spec.compress.mixed.maxLoss" in message
    assert "gentlest" in message
    ctx = context(tmp_path / "one")
    one = QuantizeMixed().run(MixedConfig(samples=12, max_loss=1e-9, strict=False), inputs, ctx)
    assert sum(each != "fp32" for each in one.precisions.values()) == 1, "of a ladder: the gate judges"


def loss_by_layers(inputs: dict[str, Artifact], folder: Path) -> set[str]:
    """Return the precisions of layers where they may not go below INT8 and everything may be lost."""
    ctx = context(folder / "levels8")
    SensitivityMixed().run(LevelsConfig(samples=12, layers="int8"), inputs, ctx)
    given = {**inputs, "sensitivity": artifact(ctx.out, "measurement")}
    found = QuantizeMixed().run(MixedConfig(samples=12, max_loss=0.9, layers="int8"), given, context(folder / "mixed8"))
    assert found.precisions["EmbedLayerNormalization_0"] == "int4"
    return {each for name, each in found.precisions.items() if name != "EmbedLayerNormalization_0"}


def test_widths_that_end_inside_a_block_are_filled() -> None:
    """A Gemm of 50 inputs with its bias, and a table of rows of 50, against the weights that the blocks stand for."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((40, 50)).astype(np.float32),
        "dense": rng.standard_normal((7, 50)).astype(np.float32),
        "bias": rng.standard_normal(7).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="look"),
        helper.make_node("Gemm", ["rows", "dense", "bias"], ["logits"], name="dense", transB=1),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 7])
    graph = helper.make_graph(nodes, "g", [ids], [out], [numpy_helper.from_array(value, name) for name, value in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    names = {each.name for each in operators(model)}
    assert names == {"look", "dense"}
    for bits, size in ((4, 16), (4, 64), (8, 64)):
        found = {
            each.node: rounded(each.rows, row_block(50) if each.table and bits == 8 else size, bits)
            for each in parts(model.graph, names)
        }
        wanted = found["look"].floats()[[3, 39, 0]] @ found["dense"].floats().T + weights["bias"]
        session = open_session(with_blocks(model, found, 1).SerializeToString(), 1)
        np.testing.assert_allclose(session.run(None, {"ids": np.array([3, 39, 0])})[0], wanted, atol=2e-2, rtol=2e-3)


def test_rounding_for_rows_loses_less_on_them_than_rounding_to_the_nearest() -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((24, 80)).astype(np.float32)
    rows = (rng.standard_normal((400, 10)) @ rng.standard_normal((10, 80)) + 0.1 * rng.standard_normal((400, 80))).astype(
        np.float32
    )
    rows[:, 5] = 0  # an input that never was other than 0
    both = rounded(weights, 32, 4), gptq(weights, rows.T.astype(np.float64) @ rows, 32, 4)
    nearest, found = (float(np.square(rows @ (each.floats() - weights).T).mean()) for each in both)
    assert found < 0.5 * nearest
    assert np.abs(both[1].floats()[:, 5] - weights[:, 5]).max() < 0.5


def test_nothing_to_quantize_is_said_with_what_can_be_written(tmp_path: Path) -> None:
    from tests.support.tiny_model import write_tiny_model

    write_tiny_model(tmp_path / "tiny")  # its table is too small to be worth it
    made = artifact(tmp_path / "tiny", "onnx-model", {"exporter": "legacy"})
    message = raised(SourceError, lambda: int4(made, tmp_path / "x"))
    assert "nothing in the model can be quantized to INT4" in message
    assert 'to "int8" or "fp32"' in message
