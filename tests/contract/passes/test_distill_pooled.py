"""What the heads of two networks are given, and a student of another kind that learns from it."""

import math
import sys

import numpy as np
import pytest
import torch
from tests.support.artifacts import dataset, sentences, tiny_teacher, vision_transformer
from tests.support.lessons import STAGE, go

from stillhouse.errors import SpecError
from stillhouse.passes.distill.losses import build_losses
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.term import Sizes, Targets
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.models import factory
from stillhouse.passes.models.artifact import load
from stillhouse.passes.models.features import features
from stillhouse.passes.models.network import NetworkOutput

FACTORY = """
import torch

class Convolutional(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 6, 3, padding=1)
        self.head = torch.nn.Linear(6, 3)

    def forward(self, pixels):
        return self.head(torch.relu(self.first(pixels)).mean((2, 3)))

def make():
    return Convolutional()

def headless():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 3, 8), torch.nn.Flatten())
"""


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_pooled_by_hand(kind):
    (term,) = build_losses([LossConfig(kind="pooled", distance=kind)], Sizes(0, 0, 0, {}, student_features=3, teacher_features=4))
    term.double()
    student, teacher = (torch.from_numpy(np.random.default_rng(seed).normal(size=(5, width))) for seed, width in ((1, 3), (2, 4)))

    def forward(given):
        return term(NetworkOutput(given, traces={"features": given}), Targets({"features": teacher}, None))

    found = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        made = [sum(w * x for w, x in zip(line, s, strict=True)) for line in term.projection.weight.tolist()]
        if kind == "mse":
            found.append(sum((a - b) ** 2 for a, b in zip(made, t, strict=True)) / 4)
        else:
            found.append(1 - sum(a * b for a, b in zip(made, t, strict=True)) / (math.hypot(*made) * math.hypot(*t)))
    assert forward(student).item() == pytest.approx(sum(found) / 5, rel=1e-9)
    assert torch.autograd.gradcheck(forward, student.clone().requires_grad_())


def test_a_convolutional_student_learns_a_transformers_features(tmp_path, monkeypatch):
    (tmp_path / "pooled_networks.py").write_text(FACTORY)
    monkeypatch.setenv(factory.FACTORY_PATH_VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    teacher = vision_transformer(tmp_path / "teacher", 16, 2)
    images = np.random.default_rng(3).random((24, 64)).astype(np.float32)
    data = dataset(tmp_path / "data", image=images.tolist())
    given = {"teacher": teacher, "data": data}
    outputs, _ = go(TeacherOutputs(), {"outputs": ["features"], "shardRows": 10}, given, tmp_path / "outputs")
    kept = read_outputs(outputs.path)[0]["features"]
    assert kept.shape == (24, 16)
    network = load(teacher.path)
    pixels = (torch.from_numpy(images).view(24, 1, 8, 8) - 0.5) / 0.25
    with torch.no_grad(), features(network, "field") as found:
        network(pixels)
        said = found.take()
        assert torch.equal(network.body.classifier(said), network(pixels))
    assert torch.allclose(kept.float(), said, atol=0.05)  # bfloat16 where the processor has it
    student, _ = go(InitStudent(), {"factory": {"target": "pooled_networks:make"}, "seed": 1}, given, tmp_path / "student")
    config = {**STAGE, "losses": [{"kind": "pooled"}], "epochs": 10, "batchSize": 5}
    made, facts = go(Distill(), config, {**given, "student": student, "outputs": outputs}, tmp_path / "run")
    assert facts["curve"][-1]["loss"] < 0.8 * facts["curve"][0]["loss"]
    assert made.digest != student.digest
    other, _ = go(InitStudent(), {"factory": {"target": "pooled_networks:headless"}, "seed": 1}, given, tmp_path / "other")
    with pytest.raises(SpecError, match="ends in no linear layer") as caught:
        go(Distill(), config, {**given, "student": other, "outputs": outputs}, tmp_path / "other-run")
    assert caught.value.problem.field == "spec.distill.stages[].losses[].kind"


def test_a_text_teachers_head_is_given_its_pooled_text(tmp_path):
    given = {"data": dataset(tmp_path / "data", text=sentences(20, seed=1))}
    judge = tiny_teacher(tmp_path / "judge", ("io", "text", "time"))
    outputs, _ = go(TeacherOutputs(), {"outputs": ["features"]}, {**given, "teacher": judge}, tmp_path / "outputs")
    assert read_outputs(outputs.path)[0]["features"].shape == (20, 32)
    embedder = tiny_teacher(tmp_path / "embedder")
    with pytest.raises(SpecError, match="ends in no linear layer"):
        go(TeacherOutputs(), {"outputs": ["features"]}, {**given, "teacher": embedder}, tmp_path / "none")
