"""Training with rounded numbers: the graph computes what was learned with, learning gains what rounding lost, and resumes."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from tests.support.artifacts import Recorder, artifact, dataset, sentences, tiny_teacher
from tests.support.int8 import BITS, REDUCE_RANGE
from tests.support.lessons import OUTPUTS, SHAPE, STAGE, go
from torch import nn

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.compress.learned import Learned, read_learned, write_learned
from stillhouse.passes.compress.static import QuantizeStatic
from stillhouse.passes.compress.trained import QuantizeTrained
from stillhouse.passes.distill.quantize.calibration import calibration_rows
from stillhouse.passes.distill.quantize.config import QuantizeConfig
from stillhouse.passes.distill.quantize.quantizer import Quantizer
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.shapes import ImageShape
from stillhouse.passes.models.small.build import build_small

RESIDUAL = {"architecture": "residual", "init": "static"}
ROUNDED = {"quantize": {"samples": 12, **BITS}}
MENDING = {**STAGE, "losses": [{"kind": "embedding", "weight": 1}], "epochs": 8, "learningRate": 0.003}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("qat")
    given = {"teacher": tiny_teacher(root / "teacher"), "data": dataset(root / "data", text=sentences(50, seed=1))}
    outputs = go(TeacherOutputs(), OUTPUTS, given, root / "outputs")[0]
    return {**given, "outputs": outputs, "calibration": given["data"]}


def student_of(inputs, folder, more):
    return go(InitStudent(), {**SHAPE, **more}, {name: inputs[name] for name in ("teacher", "data", "outputs")}, folder)[0]


@pytest.fixture(scope="module")
def brittle(inputs, tmp_path_factory):
    """A trained student with one huge weight for each output of its feed-forward blocks, whose input is always 0.

    FP32 takes no notice. INT8 has one scale for an output's weights: all others are rounded to -1, 0 or 1 of it.
    """
    root = tmp_path_factory.mktemp("brittle")
    student = student_of(inputs, root / "student", RESIDUAL)
    trained = go(Distill(), {**STAGE, "epochs": 6}, {**inputs, "student": student}, root / "trained")[0]
    network = load(trained.path)
    expected = network(*rows_of(trained, inputs)[0])
    with torch.no_grad():
        for layer in network.body.layers:
            layer.feed_in.bias[0] = -1000.0
            layer.feed_in.weight[0] = 0.0
            layer.feed_out.weight[:, 0] = 0.0
        without = network(*rows_of(trained, inputs)[0])
        for layer in network.body.layers:
            layer.feed_out.weight[:, 0] = 40.0 * layer.feed_out.weight.abs().amax(1)
        torch.testing.assert_close(network(*rows_of(trained, inputs)[0]), without)
        torch.testing.assert_close(without, expected, atol=0.1, rtol=1.0)
    out = root / "brittle"
    out.mkdir()
    save(network, out, tokenizer=trained.path / "tokenizer.json")
    return artifact(out, "torch-model")


def rows_of(model, inputs):
    return calibration_rows(model.path, Signature.read(model.path), inputs["data"], 12)


def answers(model, rows):
    """Return what a graph says of rows, one by one."""
    session, names = onnxruntime.InferenceSession(model.path / "model.onnx"), Signature.read(model.path).inputs
    feeds = [{name: value.numpy() for name, value in zip(names, row, strict=True)} for row in rows]
    return np.concatenate([session.run(None, feed)[0] for feed in feeds])


def exported(model, folder):
    return go(ExportOnnx(), {"samples": 4, "quick": True}, {"model": model}, folder)[0]


def static(model, inputs, folder):
    """The INT8 graph of a network that learned without rounding."""
    given = {"model": exported(model, folder / "onnx"), "data": inputs["data"]}
    return go(QuantizeStatic(), {"samples": 12, **BITS}, given, folder)[0]


def trained(model, inputs, folder, **config):
    """The INT8 graph of a network that learned with it, and what the pass found."""
    given = {"model": exported(model, folder / "onnx"), "trained": model, "data": inputs["data"]}
    return go(QuantizeTrained(), {"samples": 12, **BITS, **config}, given, folder)


def rounding(model, rows, folder, **config):
    """Let a network round, once, without any training; its answers meanwhile, and an artifact that says how it rounded."""
    network = load(model.path)
    quantizer = Quantizer(network, QuantizeConfig(**{"reduce_range": REDUCE_RANGE, **config}), 8, rows)
    with torch.no_grad():
        rounded = np.concatenate([network(*row).numpy() for row in rows])
    told, learned = quantizer.finish()
    with torch.no_grad():
        plain = np.concatenate([network(*row).numpy() for row in rows])
    folder.mkdir()
    tokenizer = model.path / "tokenizer.json"
    save(network, folder, tokenizer=tokenizer if tokenizer.is_file() else None)
    write_learned(folder, learned)
    return rounded, plain, artifact(folder, "torch-model"), told


@pytest.mark.parametrize(
    ("more", "reduce_range"),
    [
        ({"init": "svd"}, REDUCE_RANGE),
        (RESIDUAL, True),
        ({"architecture": "cnn"}, REDUCE_RANGE),
        ({"architecture": "mlp"}, REDUCE_RANGE),
    ],
    ids=["encoder", "residual, 7 bits", "cnn", "mlp"],
)
def test_the_graph_computes_what_the_network_learned_with(inputs, tmp_path, more, reduce_range):
    """To the last digits: not only about as near to FP32."""
    student = student_of(inputs, tmp_path / "student", more)
    if more.get("init") == "svd":  # a channel that is hard to round, so that something is balanced
        network = load(student.path)
        with torch.no_grad():
            network.body.embeddings.LayerNorm.weight[3] = 30.0
        save(network, student.path)
    rows = rows_of(student, inputs)
    rounded, plain, made, told = rounding(student, rows, tmp_path / "rounded", reduce_range=reduce_range)
    assert np.abs(rounded - plain).max() > 1e-4, "nothing was rounded"
    np.testing.assert_allclose(plain, answers(exported(student, tmp_path / "fp32"), rows), atol=1e-5)
    graph, facts = trained(made, inputs, tmp_path / "int8", reduceRange=reduce_range)
    np.testing.assert_allclose(answers(graph, rows), rounded, atol=1e-5)
    assert facts["read"] == 0
    assert facts["learned"] > 0
    assert (told.balanced > 0) == bool(facts["balanced"])
    assert facts["balanced"] or more.get("init") != "svd"
    fast = facts["operators"].get("com.microsoft:MatMulIntegerToFloat", 0) + facts["operators"].get("com.microsoft:QAttention", 0)
    assert fast == facts["learned"]


def test_what_convolutions_learned_is_in_their_graph(inputs, tmp_path):
    image = ImageSpec(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))
    shape = ImageShape(form="image-cnn", hidden_size=12, layers=1, channels=(8, 12), image=(1, 8, 8))
    signature = Signature("image-classification", ("pixels",), "logits", 3, ("a", "b", "c"), 0, 0, "", image)
    torch.manual_seed(1)
    architecture = Architecture(kind="small-network", small=shape, projection=3)
    network = Network(build_small(shape), architecture, signature, nn.Linear(12, 3))
    network.train()
    network(torch.randn(32, 1, 8, 8))  # the batch normalisation has seen something, which the exporter folds
    network.eval()
    (tmp_path / "net").mkdir()
    save(network, tmp_path / "net")
    pixels = np.random.default_rng(3).random((12, 64)).astype(np.float32)
    data = dataset(tmp_path / "data", image=pixels.tolist(), label=["a", "b", "c"] * 4)
    student = artifact(tmp_path / "net", "torch-model")
    rows = rows_of(student, {"data": data})
    rounded, plain, made, told = rounding(student, rows, tmp_path / "rounded")
    graph, facts = trained(made, {"data": data}, tmp_path / "int8")
    assert told.layers == facts["learned"] == 3
    assert facts["read"] > 0, "what the last convolution gives is rounded in its graph, and no layer learned it"
    assert np.abs(answers(graph, rows) - rounded).max() < 0.5 * np.abs(plain - rounded).max() + 0.02
    recorder, one = Recorder(), dataset(tmp_path / "one", image=pixels.tolist(), label=["a"] * 12)
    given = {"model": exported(made, tmp_path / "again"), "trained": made, "data": one}
    go(QuantizeTrained(), {"samples": 12}, given, tmp_path / "told", recorder)
    assert any("all 12 calibration rows are of class a:" in note for note in recorder.notes), "they gave that range"


def test_learning_with_it_gains_what_rounding_lost(inputs, brittle, tmp_path):
    """Against the same training without rounding, and against none."""
    rows = calibration_rows(brittle.path, Signature.read(brittle.path), inputs["data"], 50)
    session = onnxruntime.InferenceSession(exported(inputs["teacher"], tmp_path / "teacher").path / "model.onnx")
    names = Signature.read(inputs["teacher"].path).inputs
    feeds = [dict(zip(("input_ids", "attention_mask"), (each.numpy() for each in row[:2]), strict=True)) for row in rows]
    wanted = np.concatenate(
        [session.run(None, {name: feed.get(name, np.zeros_like(feed["input_ids"])) for name in names})[0] for feed in feeds]
    )

    def lost(model):
        return float(1 - (answers(model, rows) * wanted).sum(1).mean())

    given = {**inputs, "student": brittle}
    after, facts = go(Distill(), {**MENDING, **ROUNDED}, given, tmp_path / "with")
    control, _ = go(Distill(), MENDING, given, tmp_path / "without")
    fp32 = lost(exported(control, tmp_path / "control"))
    losses = {
        "none": lost(static(brittle, inputs, tmp_path / "a")),
        "without": lost(static(control, inputs, tmp_path / "b")),
        "with": lost(trained(after, inputs, tmp_path / "c")[0]),
    }
    assert facts["quantized"] == {"layers": 10, "balanced": 0, "tables": 1, "rows": 12, "readings": 8}
    assert losses["with"] - fp32 < 0.5 * (min(losses["none"], losses["without"]) - fp32), (fp32, losses)


def test_a_run_that_was_stopped_ends_with_the_same_bytes(inputs, tmp_path, monkeypatch):
    student = student_of(inputs, tmp_path / "student", {"init": "svd"})
    given, config = {**inputs, "student": student}, {**STAGE, **ROUNDED, "checkpointSteps": 2}
    recorder = Recorder()
    whole, facts = go(Distill(), config, given, tmp_path / "whole", recorder)
    assert any("ranges read 7 times off 12 rows" in note for note in recorder.notes), recorder.notes
    plain, calls = Quantizer.begin, []

    def stopping(self, step):
        calls.append(step)
        if len(calls) == 8:  # in the half in which ranges are read
            raise KeyboardInterrupt
        plain(self, step)

    monkeypatch.setattr(Quantizer, "begin", stopping)
    with pytest.raises(KeyboardInterrupt):
        go(Distill(), config, given, tmp_path / "cut")
    cut, found = go(Distill(), config, given, tmp_path / "cut")
    assert (found["resumed"], found["curve"], found["quantized"]) == (1, facts["curve"], facts["quantized"])
    for name in ("model.safetensors", "quantization.json"):
        assert (cut.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert all(each.scale > 0 and 0 <= each.zero <= 255 for each in read_learned(cut.path))
    assert {type(module.__dict__.get("forward")) for module in load(cut.path).modules()} == {type(None)}


def test_what_goes_astray_is_told(inputs, tmp_path):
    student = student_of(inputs, tmp_path / "student", RESIDUAL)
    config = {**STAGE, **ROUNDED, "learningRate": 1e30}
    with pytest.raises(DataError, match="went astray"):
        go(Distill(), config, {**inputs, "student": student}, tmp_path / "a")
    poor = {**inputs, "student": student, "calibration": dataset(tmp_path / "poor", text=["read the file"] * 5)}
    with pytest.raises(DataError) as raised:
        go(Distill(), {**STAGE, **ROUNDED}, poor, tmp_path / "b")
    assert raised.value.problem.field == "calibration.uri"


def test_calibration_rows_of_one_class_are_told_of(inputs, tmp_path):
    student = student_of(inputs, tmp_path / "student", RESIDUAL)
    config = {**STAGE, **ROUNDED, "epochs": 1}
    for name, labels in (("one", ["io"] * 50), ("two", ["io", "text"] * 25)):
        rows, recorder = dataset(tmp_path / f"{name}-rows", text=sentences(50, seed=2), label=labels), Recorder()
        go(Distill(), config, {**inputs, "student": student, "calibration": rows}, tmp_path / name, recorder)
        assert any("all 50 calibration rows are of class io" in note for note in recorder.notes) == (name == "one")


class Scaled(nn.Module):
    """No layer of torch's: weights that are multiplied by hand, and a linear layer that nobody asks."""

    def __init__(self):
        super().__init__()
        self.weight, self.idle = nn.Parameter(torch.ones(3, 64)), nn.Linear(64, 3)

    def forward(self, pixels):
        return pixels.flatten(1) @ self.weight.T


def test_networks_and_graphs_without_such_layers_are_refused(inputs, tmp_path):
    image = ImageSpec(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))
    signature = Signature("image-classification", ("pixels",), "logits", 3, ("a", "b", "c"), 0, 0, "", image)
    network = Network(Scaled(), Architecture(kind="factory", factory=FactoryCall(target="nets:make")), signature)
    with pytest.raises(SpecError) as raised:
        Quantizer(network, QuantizeConfig(), 8, [(torch.randn(1, 1, 8, 8),)])
    assert raised.value.problem.field == "spec.compress.qat"
    assert "forward" not in network.body.idle.__dict__
    one, other = (student_of(inputs, tmp_path / name, {**RESIDUAL, "seed": seed}) for name, seed in (("a", 3), ("b", 4)))
    write_learned(other.path, [Learned("layers.0.feed_in.weight", 0.1, 128)])
    given = {"model": exported(one, tmp_path / "onnx"), "trained": other, "data": inputs["data"]}
    with pytest.raises(SourceError, match="no layer that learned"):
        go(QuantizeTrained(), {}, given, tmp_path / "c")
    (other.path / "quantization.json").write_text(json.dumps({"version": 1}))
    with pytest.raises(SourceError, match="not readable"):
        go(QuantizeTrained(), {}, given, tmp_path / "d")
