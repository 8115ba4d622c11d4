"""What a plan says of the disk is near what the passes leave there."""

import dataclasses

import pytest
from tests.support.api_objects import GONE, complete, edited
from tests.support.artifacts import dataset, sentences, tiny_teacher
from tests.support.lessons import go
from tests.support.plans import environment

from stillhouse.api.load import parse
from stillhouse.inference.signature import Signature
from stillhouse.passes.compress.dynamic import QuantizeDynamic
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.export.onnx import ExportOnnx
from stillhouse.passes.models.artifact import load
from stillhouse.planning.build import build_plan
from stillhouse.planning.disk import FLOOR, POSITIONS, weights
from stillhouse.planning.estimate import estimate

WIDTH, LAYERS = 32, 3
STUDENTS = {
    "encoder": {"hiddenLayers": 2, "hiddenSize": 16, "attentionHeads": 2, "init": "svd"},
    "trimmed": {"hiddenLayers": 1, "hiddenSize": 16, "attentionHeads": 2, "init": "svd", "vocabulary": {"maxSize": 300}},
    "attention": {"architecture": "residual", "hiddenLayers": 2, "hiddenSize": 64},
    "convolved": {"architecture": "residual", "hiddenLayers": 2, "hiddenSize": 64, "convolution": {"kernelSizes": [3, 5]}},
    "cnn": {"architecture": "cnn", "hiddenLayers": 2, "hiddenSize": 128, "convolution": {"kernelSizes": [3, 4]}},
    "separable": {"architecture": "cnn", "hiddenSize": 256, "convolution": {"separable": True}},
    "bilstm": {"architecture": "bilstm", "hiddenLayers": 2, "hiddenSize": 128},
    "mlp": {"architecture": "mlp", "hiddenLayers": 3, "hiddenSize": 256, "bigrams": 2_048},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return {
        "teacher": tiny_teacher(tmp_path_factory.mktemp("teacher")),
        "data": dataset(tmp_path_factory.mktemp("data"), text=sentences(120, seed=1)),
    }


@pytest.mark.parametrize("name", STUDENTS)
def test_a_built_student_is_as_large_as_its_plan_said(name, inputs, tmp_path):
    model = parse(
        edited(
            complete("text"),
            {
                "spec.distill.student": STUDENTS[name],
                "spec.distill.stages": [{"name": "soft", "losses": [{"kind": "embedding"}]}],
                "spec.source.maxLength": 32,
                "spec.distill.maxLength": 32,
                "spec.compress": {"precision": "int8"},
                "spec.edge": GONE,
            },
        )
    )
    env = environment(model)
    tokens = len(load(inputs["teacher"].path).token_vectors)
    shape = {"format": "safetensors", "hiddenSize": WIDTH, "layers": LAYERS, "vocabularySize": tokens}
    pins = {
        uri: dataclasses.replace(pin, size=inputs["teacher"].size, info=shape) if "rows" not in pin.info else pin
        for uri, pin in env.pins.items()
    }
    env = dataclasses.replace(env, pins=pins)
    plan = build_plan(model, env)
    step = plan.step("train/student")
    student, facts = go(InitStudent(), step.config, inputs, tmp_path / "student")
    assert Signature.read(student.path).dimension == WIDTH
    said = weights(step, plan, env)
    # A plan does not know that this teacher has 64 positions. Biases and normalisations are left out: of so narrow a network some
    # percent.
    positions = (POSITIONS - 64) * 16 if name in ("encoder", "trimmed") else 0
    assert (said.tables + said.rest) / 4 - positions == pytest.approx(facts["parameters"], rel=0.15)

    if name not in ("trimmed", "convolved", "mlp"):  # an export takes seconds
        return
    graph, _ = go(ExportOnnx(), {"samples": 8, "quick": True}, {"model": student}, tmp_path / "graph")
    config = plan.step("compress/int8").config
    int8, _ = go(QuantizeDynamic(), config, {"model": graph}, tmp_path / "int8")
    for done, made in (("train/student", student), ("compress/fp32", graph), ("compress/int8", int8)):
        found = estimate(plan.step(done), plan, env).disk
        size = sum(file.stat().st_size for file in made.path.rglob("*"))
        assert size / 2 < found < 2 * size + FLOOR, f"{done}: {found} estimated, {size} there"
