"""Networks of a user's own factory, for images: taught, refused at once where they are wrong."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.artifacts import artifact, dataset
from tests.support.lessons import LABELS, STAGE, go

from stillhouse.errors import DataError, SourceError, SpecError
from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.evaluate.reference import TeacherReference
from stillhouse.passes.models import factory
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.network import Network
from stillhouse.planning.fields import as_written
from stillhouse.planning.plan import Step

FACTORY = """
import torch

def make(width):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))

def wrong():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))

def nothing():
    return 3

class Winding(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = make(4)

    def forward(self, pixels):
        rows = [self.inner(pixels[at : at + 1]) * (1 + at) for at in range(len(pixels))]  # as often as there are rows
        return torch.cat(rows)

def winding():
    return Winding()
"""


@pytest.fixture
def painter(tmp_path, monkeypatch):
    """A teacher of images from a factory, and data for it."""
    (tmp_path / "networks.py").write_text(FACTORY)
    monkeypatch.setenv(factory.FACTORY_PATH_VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    call = FactoryCall(target="networks:make", arguments={"width": 32}, digest=factory.source_digest("networks:make"))
    torch.manual_seed(0)
    spec = ImageSpec(8, 8, 1, (0.5,), (0.25,))
    signature = Signature("image-classification", ("pixels",), "logits", 3, LABELS, image=spec)
    folder = tmp_path / "teacher"
    folder.mkdir()
    network = Network(factory.call(call), Architecture(kind="factory", factory=call), signature)
    network.eval()
    save(network, folder)
    draw = np.random.Generator(np.random.PCG64(1))
    images = draw.random((40, 64)).astype(np.float32).tolist()
    data = dataset(tmp_path / "data", image=images, label=[row % 3 for row in range(40)])
    return artifact(folder, "torch-model"), data, np.array(images, dtype=np.float32)


def test_images_go_from_a_factory_teacher_to_a_factory_student(painter, tmp_path):
    teacher, data, images = painter
    outputs, _ = go(
        TeacherOutputs(),
        {"outputs": ["logits"], "maxLength": 1, "shardRows": 16},
        {"teacher": teacher, "data": data},
        tmp_path / "o",
    )
    found = read_outputs(outputs.path)[0]["logits"]
    normalised = torch.from_numpy((images.reshape(40, 1, 8, 8) - 0.5) / 0.25)
    assert torch.allclose(found, load(teacher.path)(normalised), atol=0.02)
    shape = {"factory": {"target": "networks:make", "arguments": {"width": 8}}, "seed": 1}
    student, facts = go(InitStudent(), shape, {"teacher": teacher, "data": data}, tmp_path / "s")
    assert facts["init"] == "factory"
    losses = [{"kind": "logits"}]
    inputs = {"teacher": teacher, "student": student, "data": data, "outputs": outputs, "validation": data}
    made, facts = go(Distill(), {**STAGE, "losses": losses, "epochs": 10}, inputs, tmp_path / "d")
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]
    assert facts["labelled_rows"] == 40
    reference, _ = go(TeacherReference(), {}, {"teacher": made, "data": data}, tmp_path / "r")
    assert load_file(reference.path / "outputs.safetensors")["logits"].shape == (40, 3)


@pytest.mark.parametrize(("target", "message"), [("networks:wrong", "another shape"), ("networks:nothing", "did not return")])
def test_factories_that_give_the_wrong_thing_are_refused_at_once(painter, tmp_path, target, message):
    teacher, data, _ = painter
    with pytest.raises(SpecError, match=message) as caught:
        go(InitStudent(), {"factory": {"target": target}}, {"teacher": teacher, "data": data}, tmp_path / "s")
    assert caught.value.problem.field == "spec.distill.student.factory.target"
    assert target in caught.value.problem.found


def test_a_factory_whose_network_cannot_be_exported_is_refused_before_it_is_trained(painter, tmp_path):
    teacher, data, _ = painter
    with pytest.raises(SourceError, match="cannot be exported") as caught:
        go(InitStudent(), {"factory": {"target": "networks:winding"}}, {"teacher": teacher, "data": data}, tmp_path / "s")
    problem = caught.value.problem
    assert (problem.field, problem.fix) == ("model.factory", "mend the network that the factory makes")
    step = Step("train/student", "train", "student", 4, {}, {"teacher": "resolve/source"}, "key")
    assert as_written(step, problem).field == "spec.distill.student.factory"


def test_an_assistant_is_never_exported(painter, tmp_path):
    teacher, data, _ = painter
    shape = {"factory": {"target": "networks:winding"}, "exported": False}
    _, facts = go(InitStudent(), shape, {"teacher": teacher, "data": data}, tmp_path / "s")
    assert facts["init"] == "factory"


def test_images_of_another_size_are_refused(painter, tmp_path):
    teacher, _, _ = painter
    data = dataset(tmp_path / "small", image=[[0.0] * 60] * 4)
    with pytest.raises(DataError) as caught:
        go(TeacherOutputs(), {"outputs": ["logits"], "maxLength": 1}, {"teacher": teacher, "data": data}, tmp_path / "o")
    assert caught.value.problem.field == "data.columns.image"
