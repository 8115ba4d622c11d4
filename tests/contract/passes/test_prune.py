"""Pruning while a student learns: zeros where they belong, parts really gone with the same answers, refusals by name."""

import copy
import json

import numpy as np
import pytest
import torch
from tests.support.artifacts import Recorder, dataset, sentences, tiny_teacher
from tests.support.lessons import OUTPUTS, SHAPE, STAGE, go
from torch import nn

from stillhouse.errors import SourceError, SpecError
from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.distill.prune.config import Course, PruneConfig
from stillhouse.passes.distill.prune.pruner import Pruner
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.network import Network

ALL = Course(0, 1)
EXAMPLE = (torch.tensor([[2, 40, 41, 42, 3], [2, 43, 44, 3, 0]]),)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("prune")
    given = {"teacher": tiny_teacher(root / "teacher"), "data": dataset(root / "data", text=sentences(50, seed=1))}
    outputs = go(TeacherOutputs(), OUTPUTS, given, root / "outputs")[0]
    student = go(InitStudent(), {**SHAPE, "init": "svd"}, given, root / "student")[0]
    return {**given, "outputs": outputs, "student": student}


@pytest.fixture(scope="module")
def residual(inputs, tmp_path_factory):
    shape = {**SHAPE, "architecture": "residual", "init": "static"}
    given = {name: inputs[name] for name in ("teacher", "data", "outputs")}
    return go(InitStudent(), shape, given, tmp_path_factory.mktemp("residual"))[0]


def texts(network):
    (ids,) = EXAMPLE
    made = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": torch.zeros_like(ids)}
    return tuple(made[name] for name in network.signature.inputs)


def pruned(network, example, by="magnitude", **shares):
    """One step of pruning: (the masked network, the smaller one, what was taken)."""
    pruner = Pruner(network, PruneConfig(by=by, **shares), ALL, example)
    network(*example)[:, 0].sum().backward()
    pruner.learn()
    pruner.apply_after(0)
    masked = copy.deepcopy(network)
    return masked, network, pruner.finish(network)


@pytest.mark.parametrize("by", ["magnitude", "taylor", "movement"])
def test_zeros_are_of_the_share_that_was_asked_for_and_nothing_changes_shape(inputs, tmp_path, by):
    recorder = Recorder()
    made, facts = go(Distill(), {**STAGE, "prune": {"weights": 0.75, "by": by}}, inputs, tmp_path, recorder)
    network, before = load(made.path), load(inputs["student"].path)
    assert {n: p.shape for n, p in network.named_parameters()} == {n: p.shape for n, p in before.named_parameters()}
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    zeros, total = (sum(int(f(each.weight)) for each in linear) for f in (lambda w: (w == 0).sum(), torch.numel))
    assert facts["pruned"]["kinds"]["weights"] == [total, total - zeros]
    assert zeros == round(0.75 * total)
    assert all(int((each.weight != 0).sum()) > 0 for each in linear)
    tables = [each.weight[1:] for each in network.modules() if isinstance(each, nn.Embedding) and len(each.weight) > 2]
    assert not any((each == 0).any() for each in tables), "embeddings stay (but for the padding's row)"
    assert json.loads((made.path / "architecture.json").read_text()).keys() == set(Architecture.model_fields) - {
        "pruned",
        "small",
    }
    assert any("weights" in note for note in recorder.notes)


@pytest.mark.parametrize("by", ["magnitude", "taylor", "movement"])
@pytest.mark.parametrize("kind", ["encoder", "residual"])
def test_heads_and_neurons_that_are_out_are_gone_and_the_answers_the_same(inputs, residual, kind, by):
    student = load((inputs["student"] if kind == "encoder" else residual).path)
    masked, smaller, facts = pruned(student, texts(student), by=by, heads=0.5, neurons=0.75)
    assert facts.kinds == {"heads": (4, 2), "neurons": (64, 16)}
    assert all(left >= 1 for each in facts.layers.values() for _, left in each.values())
    with torch.no_grad():
        assert torch.allclose(masked(*texts(student)), smaller(*texts(student)), atol=1e-6)
    sizes = [sum(p.numel() for p in each.parameters()) for each in (masked, smaller)]
    # A head of 8 is four matrices of 8 x 16 and three times 8 numbers beside, a neuron 16 + 1 + 16 numbers.
    assert sizes[0] - sizes[1] == 2 * (4 * 8 * 16 + 3 * 8) + 48 * 33
    assert facts.before - facts.after >= 0.5 * facts.before


def test_what_was_pruned_is_saved_loaded_exported_and_pruned_again(inputs, tmp_path):
    first = {**STAGE, "prune": {"heads": 0.5, "neurons": 0.5, "by": "taylor"}}
    made, facts = go(Distill(), first, inputs, tmp_path / "a")
    network = load(made.path)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.body.named_parameters()}
    assert facts["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    layers = [name for name in shapes if name.endswith("intermediate.dense.weight")]
    assert sum(shapes[name][0] for name in layers) == facts["pruned"]["kinds"]["neurons"][1] == 32
    quick = {"samples": 4, "quick": True}
    _, graph = go(ExportOnnx(), quick, {"model": made}, tmp_path / "onnx")
    _, whole = go(ExportOnnx(), quick, {"model": inputs["student"]}, tmp_path / "whole")
    assert graph["min_cosine"] > 0.9999
    assert graph["fused"]["Attention"] == whole["fused"]["Attention"] == 2, "fewer heads are fused as well"
    assert graph["parameters"] - graph["embedding_parameters"] < whole["parameters"] - whole["embedding_parameters"]
    assert graph["macs"]["16"] < whole["macs"]["16"]
    again, more = go(Distill(), {**STAGE, "prune": {"neurons": 0.5}}, {**inputs, "student": made}, tmp_path / "b")
    assert more["pruned"]["kinds"]["neurons"] == [32, 16]
    assert load(again.path)(*texts(network)).shape == (2, 32)
    # What follows learns with the sizes that are left.
    last, _ = go(Distill(), STAGE, {**inputs, "student": again}, tmp_path / "c")
    assert json.loads((last.path / "architecture.json").read_text()) == json.loads((again.path / "architecture.json").read_text())


@pytest.mark.parametrize("by", ["magnitude", "taylor", "movement"])
def test_a_run_that_was_stopped_while_it_pruned_ends_with_the_same_bytes(inputs, tmp_path, monkeypatch, by):
    config = {**STAGE, "checkpointSteps": 2, "prune": {"heads": 0.5, "neurons": 0.5, "by": by}}
    whole, facts = go(Distill(), config, inputs, tmp_path / "whole")
    plain, calls = Pruner.apply_after, []

    def stopping(self, step):
        calls.append(step)
        if len(calls) == 8:  # in the middle of the course, behind the optimizer: this step is lost
            raise KeyboardInterrupt
        plain(self, step)

    monkeypatch.setattr(Pruner, "apply_after", stopping)
    with pytest.raises(KeyboardInterrupt):
        go(Distill(), config, inputs, tmp_path / "cut")
    cut, found = go(Distill(), config, inputs, tmp_path / "cut")
    assert (found["resumed"], found["curve"], found["pruned"]) == (1, facts["curve"], facts["pruned"])
    assert (cut.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()


class Branches(nn.Module):
    """Convolutions with a batch norm and a shortcut, two branches that are joined, linear layers behind."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.back = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 1)
        self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1)
        self.hidden, self.head = nn.Linear(8 * 16, 10), nn.Linear(10, 3)

    def forward(self, pixels):
        states = torch.relu(self.norm(self.stem(pixels)))
        states = states + self.back(torch.sigmoid(self.inner(states)))
        joined = torch.cat([torch.relu(self.left(states)), self.right(states)], dim=1)
        pooled = nn.functional.max_pool2d(joined, 2).flatten(1)
        return self.head(nn.functional.gelu(self.hidden(pooled)))


def images(body):
    image = ImageSpec(8, 8, 1, (0.5,), (0.25,))
    signature = Signature("image-classification", ("pixels",), "logits", 3, labels=("a", "b", "c"), image=image)
    architecture = Architecture(kind="factory", factory=FactoryCall(target="tests.contract.passes.test_prune:Branches"))
    return Network(body, architecture, signature).eval(), (torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)),)


def test_channels_and_neurons_of_a_factorys_network(tmp_path):
    torch.manual_seed(0)
    network, example = images(Branches())
    masked, smaller, facts = pruned(network, example, by="taylor", channels=0.5, neurons=0.5)
    # The stem and `back` go into the shortcut, so their channels stay; the head's outputs are the answer.
    assert facts.layers["channels"].keys() == {"inner", "left", "right"}
    assert facts.kinds == {"channels": (14, 7), "neurons": (10, 5)}
    body = smaller.body
    assert (body.stem.out_channels, body.back.out_channels, body.hidden.out_features, body.head.in_features) == (8, 8, 5, 5)
    assert body.hidden.in_features == 16 * (body.left.out_channels + body.right.out_channels)
    with torch.no_grad():
        expected = masked(*example)
        assert torch.allclose(smaller(*example), expected, atol=1e-5)
        save(smaller, tmp_path)
        assert torch.allclose(load(tmp_path)(*example), expected, atol=1e-5)


class Stubborn(nn.Module):
    """A chain whose code has a size of its own."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 64, 3)

    def forward(self, pixels):
        return self.two(self.one(pixels).reshape(-1, 256))


def test_what_cannot_be_pruned_is_refused_by_name(inputs):
    student = load(inputs["student"].path)

    def refused(network, example, **shares):
        with pytest.raises(SpecError) as caught:
            Pruner(network, PruneConfig(**shares), ALL, example)
        return caught.value.problem

    few = refused(student, texts(student), heads=0.75)
    assert few.field == "spec.distill.stages[].prune.heads"
    assert "encoder.layer.0 has 2" in few.found
    assert (few.allowed, few.fix) == ("at most 50%: every layer keeps one", "heads: 50%")
    assert refused(student, texts(student), channels=0.5).field.endswith("prune.channels")
    network, example = images(Branches())
    assert refused(network, example, heads=0.5).field.endswith("prune.heads")
    stubborn = refused(*images(Stubborn()), channels=0.5)
    assert "does not do with fewer channels" in stubborn.message


def test_a_recovery_without_steps_before_it_is_refused(inputs, tmp_path):
    with pytest.raises(SpecError, match="recovery leaves no step"):
        go(Distill(), {**STAGE, "epochs": 1, "prune": {"weights": 0.5, "recovery": 0.95}}, inputs, tmp_path)


def test_a_pruned_artifact_with_other_sizes_is_refused(inputs, tmp_path):
    made, _ = go(Distill(), {**STAGE, "epochs": 1, "prune": {"neurons": 0.5}}, inputs, tmp_path)
    path = made.path / "architecture.json"
    data = json.loads(path.read_text())
    data["pruned"]["encoder.layer.0.intermediate.dense"][0] = 9999
    path.write_text(json.dumps(data))
    with pytest.raises(SourceError, match="not those of the network"):
        load(made.path)


def test_what_is_out_by_movement_may_come_back_and_by_the_others_does_not(inputs):
    for by in ("magnitude", "taylor", "movement"):
        network = load(inputs["student"].path)
        pruner = Pruner(network, PruneConfig(weights=0.5, by=by), Course(0, 8), texts(network))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        kept, back = None, 0
        for step in range(8):
            network(*texts(network))[:, step].sum().backward()
            pruner.learn()
            optimizer.step()
            optimizer.zero_grad()
            pruner.apply_after(step)
            now = np.concatenate([b.flatten().numpy() for n, b in pruner.named_buffers() if n.startswith("kept")])
            back += 0 if kept is None else int((now & ~kept).sum())
            kept = now
        assert abs(kept.mean() - 0.5) < 0.01
        assert (back > 0) == (by == "movement"), by
