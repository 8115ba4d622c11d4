"""A residual student whose encoder is convolutions: begins as the same bag, hears neighbours, and is exported as it is."""

import json

import numpy as np
import onnxruntime as ort
import pytest
import torch
from pydantic import ValidationError
from tests.support.artifacts import Recorder, tree_digest
from tests.support.int8 import BITS
from tests.support.lessons import go
from tests.support.residual_students import SHAPE, STAGE, closeness, taught, tokens_of

from stillhouse.errors import SpecError
from stillhouse.passes.compress.dynamic import QuantizeDynamic
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.shapes import ResidualShape

CONVOLVED = {name: value for name, value in SHAPE.items() if name not in {"attentionHeads", "intermediateSize"}} | {
    "kernelSizes": [2, 3]
}
LESSON = {**STAGE, "losses": [{"kind": "embedding"}], "epochs": 10}
KINDS = {"plain": {}, "dilated": {"dilated": True}, "separable": {"separable": True}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return taught(tmp_path_factory)


@pytest.fixture(scope="module", params=KINDS)
def lesson(request, inputs, tmp_path_factory):
    student = go(InitStudent(), CONVOLVED | KINDS[request.param], inputs, tmp_path_factory.mktemp("student"))[0]
    given = {**inputs, "student": student}
    return given, go(Distill(), LESSON, given, tmp_path_factory.mktemp("trained"))[0]


def test_it_begins_as_the_bag_that_one_with_attention_begins_as(inputs, tmp_path):
    made, facts = go(InitStudent(), CONVOLVED, inputs, tmp_path / "convolved")
    other, _ = go(InitStudent(), SHAPE, inputs, tmp_path / "attention")
    assert (facts["architecture"], facts["init"], facts["attention_heads"]) == ("residual", "static", 0)
    ids = torch.tensor([[2, 40, 41, 42, 3], [2, 42, 40, 41, 3]])
    found, theirs = (load(each.path)(ids, torch.ones_like(ids)) for each in (made, other))
    assert torch.allclose(found, theirs, atol=1e-6)
    assert torch.allclose(found[0], found[1], atol=1e-6), "order says nothing yet"
    said = [json.loads((each.path / "architecture.json").read_text())["residual"] for each in (made, other)]
    assert ["kernel_sizes" in each for each in said] == [True, False], "those with attention keep their bytes"


def test_training_brings_it_nearer_and_its_neighbours_in(lesson, tmp_path):
    inputs, trained = lesson
    assert closeness(trained, inputs, tmp_path / "after") > closeness(inputs["student"], inputs, tmp_path / "before") + 0.005
    ids = torch.tensor([[2, 40, 41, 42, 3], [2, 42, 40, 41, 3]])
    found = load(trained.path)(ids, torch.ones_like(ids))
    assert not torch.allclose(found[0], found[1], atol=1e-5)


def test_padding_changes_nothing(lesson):
    network = load(lesson[1].path)
    ids = torch.tensor([[2, 40, 41, 42, 43, 44, 3], [2, 43, 44, 3, 0, 0, 0]])
    mask = (ids > 0).long()
    found = network(ids, mask)
    assert torch.allclose(found[1], network(ids[1:, :4], mask[1:, :4])[0], atol=1e-6)
    other = ids.clone()
    other[1, 4:] = 45  # whatever stands behind the mask
    assert torch.allclose(found, network(other, mask), atol=1e-6)
    states = network.run(ids, mask, hidden=True)
    assert [tuple(state.shape) for state in states.hidden] == [(2, 16)] * 3


def test_it_is_exported_as_it_is_and_quantized_close_to_it(lesson, tmp_path):
    trained = lesson[1]
    model, facts = go(ExportOnnx(), {"opset": 17, "samples": 16, "threads": 1}, {"model": trained}, tmp_path / "onnx")
    assert facts["max_abs_error"] < 1e-4
    config = {"perChannel": True, "exclude": 0, **BITS}
    small, _ = go(QuantizeDynamic(), config, {"model": model}, tmp_path / "int8")
    sessions = [ort.InferenceSession(one.path / "model.onnx") for one in (model, small)]
    generator = np.random.Generator(np.random.PCG64(4))
    for batch, length in ((1, 1), (1, 3), (5, 9), (2, 32)):
        ids = generator.integers(5, tokens_of(model), (batch, length))
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        exact, near = (session.run(None, feed)[0] for session in sessions)
        wanted = load(trained.path)(torch.from_numpy(ids), torch.from_numpy(feed["attention_mask"])).detach()
        assert np.allclose(exact, wanted, atol=1e-4)
        assert (exact * near).sum(1).min() > 0.99


def test_an_interrupted_run_ends_with_the_same_bytes_and_so_does_saving(lesson, tmp_path):
    inputs, trained = lesson
    with pytest.raises(KeyboardInterrupt):
        go(Distill(), LESSON, inputs, tmp_path / "cut", Recorder(stop_at=30, unit="steps"))
    resumed, facts = go(Distill(), LESSON, inputs, tmp_path / "cut")
    assert (facts["resumed"], resumed.digest) == (1, trained.digest)
    (tmp_path / "saved").mkdir()
    save(load(trained.path), tmp_path / "saved", tokenizer=trained.path / "tokenizer.json")
    assert tree_digest(tmp_path / "saved") == trained.digest


def test_what_fits_no_convolution_is_refused(inputs, tmp_path):
    with pytest.raises(SpecError) as caught:
        go(InitStudent(), {**CONVOLVED, "hiddenSize": 8, "kernelSizes": [3] * 9}, inputs, tmp_path)
    assert caught.value.problem.field == "spec.distill.student.convolution.kernelSizes"
    sizes = {"vocabulary": 9, "dimension": 4, "hidden_size": 6, "layers": 1, "max_length": 5}
    for wrong in ({"heads": 2, "intermediate_size": 8, "kernel_sizes": (3,)}, {"heads": 0, "intermediate_size": 0}):
        with pytest.raises(ValidationError, match="attention"):
            ResidualShape(**sizes, **wrong)


def test_a_loss_that_looks_into_attention_says_that_there_is_none(lesson, tmp_path):
    loss = {"kind": "value-relation", "layer": 3, "studentLayer": 2}
    with pytest.raises(SpecError) as caught:
        go(Distill(), {**STAGE, "losses": [loss]}, lesson[0], tmp_path)
    assert "attention" in caught.value.problem.allowed
