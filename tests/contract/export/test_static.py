"""INT8 with ranges from calibration rows, balancing before it, and weights of 16 bits: graphs made by hand, to look into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.artifacts import Recorder, artifact, context, dataset
from tests.support.int8 import BITS
from tests.support.source_folders import raised
from tests.support.tiny_model import WORDS, write_tiny_model

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Pass
from stillhouse.passes.compress.calibrating import StaticConfig
from stillhouse.passes.compress.halve import Halve, HalveConfig
from stillhouse.passes.compress.int4 import Int4Config, QuantizeInt4
from stillhouse.passes.compress.levels import LevelsConfig, SensitivityMixed
from stillhouse.passes.compress.mixed import MixedConfig, QuantizeMixed
from stillhouse.passes.compress.ranges import Method, extremes, ranges
from stillhouse.passes.compress.sensitivity import Sensitivity, SensitivityConfig
from stillhouse.passes.compress.smooth import balance
from stillhouse.passes.compress.static import QuantizeStatic, QuantizeStaticConfig
from stillhouse.passes.compress.static_graph import static_operators
from stillhouse.passes.export.samples import parity_feeds
from stillhouse.passes.export.tidy import operator_counts

WIDTH, INNER = 32, 64
Graph = tuple[list[onnx.NodeProto], dict[str, np.ndarray[Any, Any]]]


def encoder(outlier: float = 20.0, last: bool = True) -> Graph:
    """A layer that normalises last, as BERT: its norm is read by a linear layer and by the path around it.

    `outlier`: the gain of one channel. Without `last` nothing reads the norm but the linear layer.
    """
    random = np.random.default_rng(1)
    gain = np.ones(WIDTH, np.float32)
    gain[3] = outlier
    weights = {
        "table": random.standard_normal((64, WIDTH)).astype(np.float32),
        "gain": gain,
        "shift": np.full(WIDTH, 0.1, np.float32),
        "up": random.standard_normal((WIDTH, INNER)).astype(np.float32) / 6,
        "up_bias": random.standard_normal(INNER).astype(np.float32),
        "down": random.standard_normal((INNER, WIDTH)).astype(np.float32) / 8,
        "axis": np.array([2], np.int64),
        "rows": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked"], "look"),
        helper.make_node("LayerNormalization", ["looked", "gain", "shift"], ["normed"], "norm", axis=-1),
        helper.make_node("MatMul", ["normed", "up"], ["upped"], "up"),
        helper.make_node("Add", ["upped", "up_bias"], ["raised"], "bias"),
        helper.make_node("Relu", ["raised"], ["active"], "relu"),
        helper.make_node("MatMul", ["active", "down"], ["downed"], "down"),
        helper.make_node("Add", ["downed", "normed" if last else "looked"], ["summed"], "around"),
        helper.make_node("Cast", ["attention_mask"], ["mask"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis"], ["wide"], "wide"),
        helper.make_node("Mul", ["summed", "wide"], ["kept"], "keep"),
        helper.make_node("ReduceSum", ["kept", "rows"], ["sentence_embedding"], "pool", keepdims=0),
    ]
    return nodes, weights


def network() -> Graph:
    """Convolutions with a residual sum, pooling, and a linear layer behind."""
    random = np.random.default_rng(2)
    weights = {
        "c1": random.standard_normal((8, 3, 3, 3)).astype(np.float32) / 3,
        "b1": random.standard_normal(8).astype(np.float32),
        "c2": random.standard_normal((8, 8, 3, 3)).astype(np.float32) / 8,
        "b2": random.standard_normal(8).astype(np.float32),
        "head": random.standard_normal((3, 8 * 16)).astype(np.float32) / 10,
        "head_bias": random.standard_normal(3).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "c1", "b1"], ["one"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["one"], ["one_up"], "relu"),
        helper.make_node("Conv", ["one_up", "c2", "b2"], ["two"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["two", "one_up"], ["sum"], "around"),
        helper.make_node("MaxPool", ["sum"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "head", "head_bias"], ["logits"], "head", transB=1),
    ]
    return nodes, weights


def written(folder: Path, graph: Graph, image: bool = False) -> Artifact:
    signature = write_tiny_model(folder, task="image-classification" if image else "sentence-embedding", dimension=WIDTH)
    nodes, weights = graph
    shape = ["b", 3, 8, 8] if image else ["b", "s"]
    kind = TensorProto.FLOAT if image else TensorProto.INT64
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name in signature.inputs],
        [helper.make_tensor_value_info(signature.output, TensorProto.FLOAT, ["b", signature.dimension])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return artifact(folder, "onnx-model")


@pytest.fixture
def texts(tmp_path: Path) -> Artifact:
    words = WORDS[4:]
    rows = [" ".join(words[(row + step) % len(words)] for step in range(2 + row % 6)) for row in range(40)]
    return dataset(tmp_path / "texts", text=rows)


@pytest.fixture
def images(tmp_path: Path) -> Artifact:
    pixels = np.random.default_rng(3).random((40, 3 * 64)).astype(np.float32)
    return dataset(tmp_path / "images", image=pixels.tolist(), label=["no", "yes"] * 20)


def static(
    model: Artifact, data: Artifact, folder: Path, measured: Artifact | None = None, **config: Any
) -> tuple[Artifact, Any]:
    ctx = context(folder)
    inputs = {"model": model, "data": data, **({"sensitivity": measured} if measured else {})}
    facts = QuantizeStatic().run(QuantizeStaticConfig.model_validate({"samples": 32, **BITS, **config}), inputs, ctx)
    return artifact(ctx.out, "onnx-model"), facts


def what_runs(model: Artifact, folder: Path) -> dict[str, int]:
    """Return the operators that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 4
    onnxruntime.InferenceSession(model.path / "model.onnx", options, providers=["CPUExecutionProvider"])
    return operator_counts(onnx.load(folder / "optimised.onnx"))


def outputs(model: Artifact | bytes, signature: Signature) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else model.path / "model.onnx")
    return np.concatenate([session.run(None, feed)[0] for feed in parity_feeds(signature, 16, len(WORDS))])


def test_linear_layers_run_as_integers_with_their_bias_and_what_goes_around_them_stays_float(
    texts: Artifact, tmp_path: Path
) -> None:
    model = written(tmp_path / "model", encoder())
    made, facts = static(model, texts, tmp_path / "static")
    assert set(facts.quantized) == {"look", "up", "down"}
    assert facts.balanced == ("normed",)
    assert facts.rows == 32
    assert facts.size < 0.5 * facts.size_before
    runs = what_runs(made, tmp_path)
    assert runs["com.microsoft:MatMulIntegerToFloat"] == 2
    assert not {"MatMul", "MatMulInteger", "DynamicQuantizeLinear"} & set(runs)
    graph = onnx.load(made.path / "model.onnx").graph
    add = next(node for node in graph.node if node.name == "around")
    assert "normed" in add.input, "the path around reads what was normalised, not what was rounded"
    assert facts.min_cosine_random > 0.99


def test_a_row_answers_the_same_whatever_stands_beside_it(texts: Artifact, tmp_path: Path) -> None:
    made, _ = static(written(tmp_path / "model", encoder()), texts, tmp_path / "static")
    session = onnxruntime.InferenceSession(made.path / "model.onnx")
    ids = np.array([[5, 6, 7, 8], [9, 10, 11, 12]])
    both = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    alone = session.run(None, {"input_ids": ids[:1], "attention_mask": np.ones_like(ids[:1])})[0]
    np.testing.assert_array_equal(both[:1], alone)
    other, _ = static(written(tmp_path / "model", encoder()), texts, tmp_path / "again")
    assert (other.path / "model.onnx").read_bytes() == (made.path / "model.onnx").read_bytes()


def test_convolutions_and_what_passes_their_numbers_on_run_as_integers(images: Artifact, tmp_path: Path) -> None:
    made, facts = static(written(tmp_path / "model", network(), image=True), images, tmp_path / "static")
    assert set(facts.quantized) == {"first", "second", "head"}
    runs = what_runs(made, tmp_path)
    names = {name.rpartition(":")[2]: count for name, count in runs.items()}
    assert (names["QLinearConv"], names["QLinearAdd"], names["MatMulIntegerToFloat"]) == (2, 1, 1)
    assert not {"Conv", "Gemm", "Add", "Relu"} & set(names)
    assert facts.min_cosine_random > 0.99


@pytest.mark.parametrize("last", [True, False])
def test_balancing_changes_no_bit_and_makes_rounding_lose_less(last: bool, texts: Artifact, tmp_path: Path) -> None:
    model = written(tmp_path / "model", encoder(outlier=100.0, last=last))
    signature = Signature.read(model.path)
    graph = onnx.load(model.path / "model.onnx")
    feeds = list(parity_feeds(signature, 16, len(WORDS)))
    seen = extremes(graph, ["normed"], feeds, 1, lambda number: None)
    assert seen["normed"].channels.argmax() == 3
    rewritten, done = balance(graph, seen, 0.5)
    assert done == ("normed",)
    assert ("Mul" in {node.op_type for node in rewritten.graph.node if "balance" in node.name}) == last
    np.testing.assert_array_equal(outputs(rewritten.SerializeToString(), signature), outputs(model, signature))
    plain, balanced = (static(model, texts, tmp_path / each, balance=float(each))[1] for each in ("0", "0.5"))
    assert plain.balanced == ()
    assert 1 - balanced.mean_cosine_random < 0.8 * (1 - plain.mean_cosine_random)


def test_ranges_are_those_of_their_method(images: Artifact, tmp_path: Path) -> None:
    model = onnx.load(written(tmp_path / "model", network(), image=True).path / "model.onnx")
    pixels = np.zeros((1, 3, 8, 8), np.float32)
    pixels[0] = np.random.default_rng(4).standard_normal((3, 8, 8))
    pixels[0, 0, 0, 0] = 1000.0
    feeds = [{"pixels": pixels}]
    seen = extremes(model, ["pixels"], feeds, 1, lambda number: None)
    found = {method: ranges(model, seen, feeds, method, 99.0, 1, lambda number: None)["pixels"] for method in get_args(Method)}
    assert found["minmax"].high == 1000.0
    assert found["minmax"].low == pixels.min()
    assert found["percentile"].high < 10.0
    assert found["percentile"].low < 0.0
    assert found["entropy"].high < 1000.0


def test_the_most_sensitive_stay_float(images: Artifact, tmp_path: Path) -> None:
    model = written(tmp_path / "model", network(), image=True)
    ctx = context(tmp_path / "s")
    config = SensitivityConfig(samples=16, top=3, static=StaticConfig())
    Sensitivity().run(config, {"model": model, "data": images}, ctx)
    order = [each["name"] for each in json.loads((ctx.out / "measurement.json").read_text())["operators"]]
    assert set(order) == {"first", "second", "head"}
    measured = artifact(ctx.out, "measurement")
    made, facts = static(model, images, tmp_path / "static", measured, exclude=1)
    assert facts.kept == (order[0],)
    assert order[0] in {node.name for node in onnx.load(made.path / "model.onnx").graph.node if node.op_type in ("Conv", "Gemm")}
    assert "compress.keepFp32" in raised(SpecError, lambda: static(model, images, tmp_path / "x", exclude=1))


def test_rows_that_cannot_calibrate_are_refused(texts: Artifact, images: Artifact, tmp_path: Path) -> None:
    model = written(tmp_path / "model", encoder())
    one_row = dataset(tmp_path / "one", text=["read the file"] * 9)
    message = raised(DataError, lambda: static(model, one_row, tmp_path / "x"))
    assert "9 rows, 1 of them different" in message
    assert "at least 2" in message
    nets = written(tmp_path / "net", network(), image=True)
    for one in (QuantizeStatic(), Sensitivity(), SensitivityMixed(), QuantizeInt4()):
        assert "1 of them different" in raised(DataError, lambda one=one: one.foresee(one.config_type(), {"data": one_row}))
        one.foresee(one.config_type(), {})
    broken = np.random.default_rng(0).random((5, 192)).astype(np.float32)
    broken[2, 7] = np.inf
    endless = dataset(tmp_path / "endless", image=broken.tolist())
    assert "not finite" in raised(SourceError, lambda: static(nets, endless, tmp_path / "z"))


def test_rows_of_one_class_are_told_of_by_whatever_reads_them(tmp_path: Path) -> None:
    model = written(tmp_path / "model", encoder())
    rows = [" ".join(WORDS[4 + number : 6 + number]) for number in range(6)]
    labels = {"one": ["no"] * 6, "two": ["no", "yes"] * 3, "some": ["no", *[""] * 5], "none": None}
    for name, given in labels.items():
        data = dataset(tmp_path / name, text=rows, **({"label": given} if given else {}))
        levels: dict[str, Artifact] = {}
        readers: list[tuple[Pass[Any, Any], Any]] = [
            (QuantizeInt4(), Int4Config(samples=4, method="gptq")),
            (QuantizeStatic(), QuantizeStaticConfig(samples=4)),
            (Sensitivity(), SensitivityConfig(samples=4)),
            (Sensitivity(), SensitivityConfig(samples=4, static=StaticConfig())),
            (SensitivityMixed(), LevelsConfig(samples=4)),
            (QuantizeMixed(), MixedConfig(samples=4, max_loss=0.9)),
        ]
        for number, (one, config) in enumerate(readers if name == "one" else readers[:1]):
            recorder = Recorder()
            ctx = context(tmp_path / f"{name}-{number}", recorder)
            one.run(config, {"model": model, "data": data, **levels}, ctx)
            if isinstance(one, SensitivityMixed):
                levels = {"sensitivity": artifact(ctx.out, "measurement")}
            told = [note for note in recorder.notes if "calibration rows are of class" in note]
            assert [note.partition(":")[0] for note in told] == ["all 6 calibration rows are of class no"] * (name == "one")
            assert ctx.said == set(told), "another step of the same build need not repeat it"


def test_nothing_to_quantize_is_said(texts: Artifact, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")  # its table is too small to be worth it
    tiny = artifact(tmp_path / "tiny", "onnx-model")
    assert static_operators(onnx.load(tiny.path / "model.onnx")) == []
    assert "nothing in the model can be quantized" in raised(SourceError, lambda: static(tiny, texts, tmp_path / "x"))
    facts = Halve().run(HalveConfig(), {"model": tiny}, context(tmp_path / "y"))
    assert facts.weights_halved == facts.weights == 288 and facts.size < facts.size_before, "there are no larger ones"
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked"], "look"),
        helper.make_node("ReduceSum", ["looked", "rows"], ["sentence_embedding"], "pool", keepdims=0),
    ]
    bare = written(tmp_path / "bare", (nodes, {"table": np.ones((3, WIDTH), np.float32), "rows": np.array([1], np.int64)}))
    message = raised(SourceError, lambda: Halve().run(HalveConfig(), {"model": bare}, context(tmp_path / "z")))
    assert 'set spec.compress.precision to "fp32"' in message


def test_half_the_weights_the_same_operators_and_nearly_the_same_answers(tmp_path: Path) -> None:
    nodes, weights = encoder()
    weights["beyond"] = np.full((WIDTH, WIDTH), 1e5, np.float32)
    weights["small"] = np.full((1, WIDTH), 1e-5, np.float32)
    model = written(tmp_path / "model", (nodes, weights))
    ctx = context(tmp_path / "half")
    facts = Halve().run(HalveConfig(), {"model": model}, ctx)
    made = artifact(ctx.out, "onnx-model")
    assert facts.kept == ("beyond",)
    assert facts.weights_halved == 64 * WIDTH + 2 * WIDTH * INNER
    assert facts.min_cosine_random > 0.999999
    signature = Signature.read(model.path)
    expected = outputs(model, signature)
    np.testing.assert_allclose(outputs(made, signature), expected, atol=2e-3 * np.abs(expected).max())
    runs = what_runs(made, tmp_path)
    assert runs.pop("Cast") == 1, "the mask's: those of the weights are done when the model is loaded"
    before = what_runs(model, tmp_path)
    before.pop("Cast")
    assert runs == before


def test_bf16_holds_what_fp16_cannot_and_rounds_to_the_nearest_of_ties_the_even(tmp_path: Path) -> None:
    nodes, weights = encoder()
    weights["up"] = weights["up"] * np.float32(1e6)
    weights["up_bias"] = weights["up_bias"] * np.float32(1e6)
    exact = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, -(1.0 + 2**-8 + 2**-20), 2**-130, 1e38], np.float32)
    weights["ties"] = np.resize(exact, (WIDTH, WIDTH))
    weights["beyond"] = np.full((WIDTH, WIDTH), np.finfo(np.float32).max, np.float32)
    model = written(tmp_path / "model", (nodes, weights))
    recorder = Recorder()
    half = context(tmp_path / "half", recorder)
    assert set(Halve().run(HalveConfig(), {"model": model}, half).kept) == {"up", "ties", "beyond"}
    assert recorder.notes == ["weights beyond FP16's 65504 stay in FP32: up, ties, beyond; precision bf16 holds them"]
    ctx = context(tmp_path / "brain")
    facts = Halve().run(HalveConfig(to="bf16"), {"model": model}, ctx)
    made = artifact(ctx.out, "onnx-model")
    assert facts.kept == ("beyond",), "what rounds to infinity stays"
    assert facts.size < 0.7 * facts.size_before
    signature = Signature.read(model.path)
    np.testing.assert_allclose(
        outputs(made, signature), expected := outputs(model, signature), atol=0.02 * np.abs(expected).max()
    )
    runs, before = what_runs(made, tmp_path), what_runs(model, tmp_path)
    assert (runs.pop("Cast"), before.pop("Cast")) == (1, 1), "the mask's: those of the weights are done when the model is loaded"
    assert runs == before
    stored = {each.name: each for each in onnx.load(made.path / "model.onnx").graph.initializer}
    bits = np.frombuffer(stored["ties_bf16"].raw_data, "<u2")[: len(exact)].astype(np.uint32) << 16
    nearest = np.array([1.0, 1.0, 1.0 + 2**-6, -(1.0 + 2**-7), 2**-130], np.float32)
    np.testing.assert_array_equal(bits.view(np.float32)[:5], nearest)
    assert abs(bits.view(np.float32)[5] / 1e38 - 1) <= 2**-8


def test_it_is_said_where_bf16_would_lose_less(tmp_path: Path) -> None:
    nodes, weights = encoder()
    weights["up"] = weights["up"] * np.float32(1e-6)
    recorder = Recorder()
    Halve().run(HalveConfig(), {"model": written(tmp_path / "model", (nodes, weights))}, context(tmp_path / "half", recorder))
    assert recorder.notes == ["weights so small that FP16 rounds them more than BF16 would: up; try precision bf16"]
    large = {name: value * np.float32(1e9) if value.size >= 1024 else value for name, value in encoder()[1].items()}
    model = written(tmp_path / "large", (nodes, large))
    message = raised(SourceError, lambda: Halve().run(HalveConfig(), {"model": model}, context(tmp_path / "x")))
    assert 'set spec.compress.precision to "bf16"' in message


def test_graphs_older_than_bf16_are_told_so(tmp_path: Path) -> None:
    model = written(tmp_path / "model", encoder())
    old = onnx.load(model.path / "model.onnx")
    old.opset_import[0].version = 12
    (model.path / "model.onnx").write_bytes(old.SerializeToString())
    message = raised(SourceError, lambda: Halve().run(HalveConfig(to="bf16"), {"model": model}, context(tmp_path / "x")))
    assert "opset 12" in message and "fp16" in message
