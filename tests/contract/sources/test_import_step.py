"""Steps of a pipeline from outside: what may come in, what its ends are, and what does not fit a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.support.artifacts import artifact, context
from tests.support.source_folders import pinned
from tests.support.step_graphs import Regression, write_graph, write_rule
from tests.support.tiny_model import write_tiny_model

from stillhouse.errors import SourceError, SpecError, UnsafeSource
from stillhouse.inference.steps import Step, Tensor, read_steps, step_file
from stillhouse.passes.base import Artifact
from stillhouse.passes.compress.join import JoinConfig, JoinSteps
from stillhouse.passes.sources.step import ImportStep, ImportStepConfig

FLOAT = TensorProto.FLOAT


def imported(source: Path, work: Path, position: int = 0, name: str = "decide", **joint: Any) -> Artifact:
    """Import one step; return it as an artifact."""
    work.mkdir(exist_ok=True)
    ctx = dataclasses.replace(context(work), source=source)
    data = {"digest": pinned(source), "name": name, "position": position, "inputs": {"features": "EMBEDDING"}, "outputs": {}}
    facts = ImportStep().run(ImportStepConfig.model_validate({**data, **joint}), {}, ctx)
    return dataclasses.replace(artifact(ctx.out, "onnx-step"), facts=dataclasses.asdict(facts))


def test_what_a_graph_takes_and_gives_is_found_by_running_it(tmp_path: Path) -> None:
    made = imported(Regression.random(16, 3).write(tmp_path / "in" / "decide.onnx"), tmp_path / "work")
    (step,) = read_steps(made.path)
    assert step.takes == (Tensor("features", "FP32", (16,)),)
    assert step.gives == (Tensor("odds", "FP32", (3,)), Tensor("choice", "INT64", (1,), flat=True))
    assert Step.from_json(made.facts["step"]) == step
    assert made.facts["parameters"] == 16 * 3 + 3
    text = helper.make_node("Identity", ["words"], ["small"])
    graph = write_graph(
        tmp_path / "folder" / "words.onnx", [text], [("words", TensorProto.STRING, ["n"])],
        [("small", TensorProto.STRING, ["n"])], {},
    )  # fmt: skip
    words = imported(graph.parent, tmp_path / "words")
    assert read_steps(words.path)[0].takes == (Tensor("words", "BYTES", (1,), flat=True),)


@pytest.mark.parametrize(
    ("nodes", "shapes", "says"),
    [
        ([helper.make_node("Relu", ["x"], ["y"])], ([1, 4], [1, 4]), "cannot be batched"),
        ([helper.make_node("Relu", ["x"], ["y"])], (["n", "m"], ["n", "m"]), "fixed others"),
        ([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], (["n", 4], []), "row by row"),
        (
            [helper.make_node("NonZero", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=FLOAT)],
            (["n", 4], ["k", "m"]),
            "row by row",
        ),
        ([helper.make_node("Relu", ["x"], ["y"], domain="evil")], (["n", 4], ["n", 4]), "library of its own"),
    ],
)
def test_what_no_server_could_batch_is_refused(nodes: list[Any], shapes: tuple[Any, Any], says: str, tmp_path: Path) -> None:
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", FLOAT, shapes[0])],
            [helper.make_tensor_value_info("y", FLOAT, shapes[1])],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)],
        ir_version=8,
    )  # fmt: skip
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "step.onnx").write_bytes(model.SerializeToString())
    with pytest.raises((SourceError, UnsafeSource)) as told:
        imported(tmp_path / "in" / "step.onnx", tmp_path / "work")
    assert says in f"{told.value.problem.message} {told.value.problem.fix}"
    assert told.value.problem.field.startswith("source.uri")


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    write_tiny_model(tmp_path / "model")
    return artifact(tmp_path / "model", "onnx-model")


def joined(model: Artifact, *steps: Artifact, out: Path) -> Path:
    out.mkdir()
    ctx = context(out)
    inputs = {"model": model, "source": model, **{f"step-{position}": each for position, each in enumerate(steps)}}
    JoinSteps().foresee(JoinConfig(steps=len(steps)), {role: each for role, each in inputs.items() if role != "model"})
    JoinSteps().run(JoinConfig(steps=len(steps)), inputs, ctx)
    return ctx.out


def test_a_model_and_its_steps_are_one_artifact(model: Artifact, tmp_path: Path) -> None:
    first = imported(Regression.random(16, 3).write(tmp_path / "in" / "a.onnx"), tmp_path / "a", outputs={"odds": "ODDS"})
    joint = {"inputs": {"odds": "decide.odds", "choice": "decide.choice"}, "outputs": {"sure": "SURE"}}
    second = imported(write_rule(tmp_path / "in" / "b.onnx", 3, 0.4), tmp_path / "b", 1, "rule", **joint)
    out = joined(model, first, second, out=tmp_path / "joined")
    assert [step.name for step in read_steps(out)] == ["decide", "rule"]
    assert (out / step_file("rule")).read_bytes() == (second.path / "model.onnx").read_bytes()
    assert (out / "model.onnx").read_bytes() == (model.path / "model.onnx").read_bytes()
    assert np.all([(out / name).is_file() for name in ("signature.json", "tokenizer.json")])


@pytest.mark.parametrize(
    ("width", "joint", "field", "words"),
    [
        (8, {}, "steps[0].inputs.features", ("EMBEDDING gives FP32 [rows, 16]", "features of step decide takes FP32 [rows, 8]")),
        (16, {"inputs": {"x": "EMBEDDING"}}, "steps[0].inputs.x", ("features (FP32 [rows, 16])",)),
        (16, {"inputs": {}}, "steps[0].inputs", ("features", "EMBEDDING, request.TEXT")),
        (16, {"inputs": {"features": "request.TEXT"}}, "steps[0].inputs.features", ("request.TEXT gives BYTES [rows, 1]",)),
        (16, {"outputs": {"odd": "ODDS"}}, "steps[0].outputs.odd", ("odds (FP32 [rows, 3])", "zipmap=False")),
    ],
)
def test_ends_that_do_not_fit_are_both_named(
    width: int, joint: Any, field: str, words: tuple[str, ...], model: Artifact, tmp_path: Path
) -> None:
    step = imported(Regression.random(width, 3).write(tmp_path / "in" / "a.onnx"), tmp_path / "a", **joint)
    with pytest.raises(SpecError) as told:
        joined(model, step, out=tmp_path / "joined")
    problem = told.value.problem
    assert problem.field == f"spec.pipeline.{field}"
    said = f"{problem.found} | {problem.allowed} | {problem.fix}"
    for each in words:
        assert each in said
    if width == 8:  # a student's width is not known before it is there
        JoinSteps().foresee(JoinConfig(steps=1), {"teacher": model, "step-0": step})


def test_a_later_step_is_held_against_what_an_earlier_one_gives(model: Artifact, tmp_path: Path) -> None:
    first = imported(Regression.random(16, 3).write(tmp_path / "in" / "a.onnx", choice=False), tmp_path / "a")
    joint = {"inputs": {"odds": "decide.odds", "choice": "decide.choice"}, "outputs": {"sure": "SURE"}}
    second = imported(write_rule(tmp_path / "in" / "b.onnx", 3, 0.4), tmp_path / "b", 1, "rule", **joint)
    with pytest.raises(SpecError) as told:
        joined(model, first, second, out=tmp_path / "joined")
    assert (told.value.problem.field, told.value.problem.found) == ("spec.pipeline.steps[1].inputs.choice", "decide.choice")
    assert "decide.odds" in told.value.problem.allowed
