"""A BERT of 3 layers × 32 as the teacher, what it says of 50 texts, and a student of it; modules may have their own."""

import pytest
from tests.support.artifacts import artifact, dataset, sentences, tiny_teacher
from tests.support.lessons import LABELS, OUTPUTS, SHAPE, go

from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs


@pytest.fixture(scope="module")
def texts():
    return sentences(50, seed=1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return tiny_teacher(tmp_path_factory.mktemp("classifier"), LABELS)


@pytest.fixture(scope="module")
def data(tmp_path_factory, texts):
    return dataset(tmp_path_factory.mktemp("data"), text=texts)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, teacher, data):
    return go(TeacherOutputs(), OUTPUTS, {"teacher": teacher, "data": data}, tmp_path_factory.mktemp("outputs"))[0]


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher, data):
    return go(InitStudent(), SHAPE, {"teacher": teacher, "data": data}, tmp_path_factory.mktemp("student"))[0]


@pytest.fixture(scope="module")
def image_teacher(tmp_path_factory):
    """What is known of a classifier of images, without its weights."""
    folder = tmp_path_factory.mktemp("images")
    signature = Signature(
        task="image-classification",
        inputs=("pixel_values",),
        output="logits",
        dimension=2,
        labels=("a", "b"),
        image=ImageSpec(height=4, width=6, channels=2, mean=(0.0, 0.0), std=(1.0, 1.0)),
    )
    signature.write(folder)
    return artifact(folder, "torch-model")
