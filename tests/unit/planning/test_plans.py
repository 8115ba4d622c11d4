"""The shape of plans: what follows what, for the specs that are known and for any valid one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from tests.support.api_objects import GONE
from tests.support.plans import environment, ids, keys, models, onnx_plan, plan_of

from stillhouse.api.model import DistilledModel
from stillhouse.digests import content_hash
from stillhouse.errors import SpecError
from stillhouse.planning.build import build_plan
from stillhouse.planning.manifest import PASSES
from stillhouse.planning.plan import STAGES


@settings(max_examples=60, deadline=None)
@given(models())
def test_every_plan_is_in_order_and_complete(model: DistilledModel) -> None:
    env = environment(model)
    plan = build_plan(model, env)

    seen: set[str] = set()
    for step in plan.steps:
        assert step.id not in seen
        assert set(step.parents.values()) <= seen, step
        assert step.pass_name in PASSES
        assert step.version == PASSES[step.pass_name].version
        assert len(step.key) == 64
        assert (step.uri != "") == step.pass_name.startswith("import-")
        assert json.loads(json.dumps(step.config, allow_nan=False)) == step.config
        seen.add(step.id)
    stages = [step.stage for step in plan.steps]
    assert "resolve" not in stages[stages.count("resolve") :], "data is imported, and so judged, before anything is trained"
    assert set(plan.targets) <= seen
    assert "gate/gate" in plan.targets
    # Nothing is planned that no target needs, and stages cover all steps.
    needed, stack = set(), list(plan.targets)
    while stack:
        step = plan.step(stack.pop())
        if step.id not in needed:
            needed.add(step.id)
            stack.extend(step.parents.values())
    assert needed == seen
    assert [step.id for _, steps in plan.by_stage() for step in steps] == sorted(
        ids(plan), key=lambda step_id: STAGES.index(plan.step(step_id).stage)
    )
    assert keys(plan) == keys(build_plan(model, env))
    # Equal keys only where the work is equal.
    work = {
        step.key: content_hash([step.pass_name, step.config, sorted(keys(plan)[p] for p in step.parents.values())])
        for step in plan.steps
    }
    assert len(set(work.values())) == len(work)


def test_the_complete_text_plan() -> None:
    plan = plan_of()
    assert ids(plan) == [
        "resolve/source",
        "resolve/data",
        "resolve/validation",
        "resolve/calibration",
        "resolve/gate-data",
        "resolve/index-data",
        "resolve/cascade-threshold",
        "resolve/cascade-calibration",
        "resolve/cascade-test",
        "train/teacher-outputs",
        "train/student",
        "train/soft",
        "train/more",
        "compress/fp32",
        "compress/int8",
        "compress/sensitivity",
        "compress/int8-mixed",
        "gate/teacher-reference",
        "gate/gate",
        "gate/index",
        "gate/larger-threshold",
        "gate/larger-calibration",
        "gate/larger-test",
        "gate/larger-index",
        "gate/cascade",
    ]
    assert plan.targets == ("gate/gate", "gate/index", "gate/cascade")
    gate = plan.step("gate/gate")
    assert gate.config["candidates"] == ["int8", "int8-mixed", "fp32"]
    assert gate.parents == {
        "candidate-0": "compress/int8",
        "candidate-1": "compress/int8-mixed",
        "candidate-2": "compress/fp32",
        "data": "resolve/gate-data",
        "reference": "gate/teacher-reference",
        "training": "resolve/data",
        "calibration": "resolve/calibration",
        "validation": "resolve/validation",
    }
    assert plan.step("train/more").parents["student"] == "train/soft"
    assert plan.step("compress/fp32").parents == {"model": "train/more"}
    note, together = plan.notes  # the complete file sets a queue and several workers
    assert note.startswith("serve.queue:")
    assert together.startswith("build.workers: in a cluster 4 pods train together; on one machine one process does")


def test_hard_labels_alone_ask_the_teacher_nothing() -> None:
    plan = plan_of("image")
    assert "train/teacher-outputs" not in ids(plan)
    assert "outputs" not in plan.step("train/stage-1").parents
    assert "gate/teacher-reference" not in ids(plan)
    assert any("no gate" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("student", "architecture", "init"),
    [
        ({"hiddenSize": 64}, "residual", "static"),
        ({"init": "static", "hiddenLayers": 2}, "residual", "static"),
        ({"architecture": "residual"}, "residual", "static"),
        ({"architecture": "encoder", "hiddenSize": 64}, "encoder", "static"),
        ({"hiddenSize": 64, "init": "svd"}, "encoder", "svd"),
        ({"hiddenLayers": 2}, "encoder", "layers"),
    ],
)
def test_a_student_of_static_vectors_is_a_residual_one(student: dict[str, Any], architecture: str, init: str) -> None:
    step = plan_of(edits={"spec.distill.student": student}).step("train/student")
    assert (step.config["architecture"], step.config["init"]) == (architecture, init)
    # Only it reads what the teacher says of whole texts: its token vectors are fitted to that.
    assert ("outputs" in step.parents) == (architecture == "residual")


def test_a_residual_student_of_hidden_states_alone_asks_the_teacher_itself() -> None:
    stages = [{"losses": [{"kind": "hidden", "layer": 2}]}]
    plan = plan_of(edits={"spec.distill.student": {"hiddenSize": 64}, "spec.distill.stages": stages})
    assert plan.step("train/student").parents == {"teacher": "resolve/source", "data": "resolve/data"}


def test_a_student_by_uri_is_imported_as_it_is() -> None:
    step = plan_of("class").step("train/student")
    assert (step.pass_name, step.uri) == ("import-model", "hf://owner/small")
    assert step.config["labels"] == ["no", "yes"]


def test_a_stage_cannot_be_called_as_what_comes_after_it() -> None:
    with pytest.raises(SpecError, match="names of their own") as raised:
        plan_of(edits={"spec.distill.stages": [{"name": "qat", "losses": [{"kind": "embedding"}]}], "spec.compress.qat": {}})
    assert raised.value.problem.field == "spec.distill.stages"


def test_an_onnx_source_is_quantized_as_it_is() -> None:
    plan = onnx_plan()
    assert "compress/fp32" not in ids(plan)
    assert plan.step("compress/int8").parents == {"model": "resolve/source"}
    few = onnx_plan({"spec.distill": GONE, "spec.compress": {"precision": "int4"}})
    assert few.step("compress/int4").parents == {"model": "resolve/source"}


def test_an_onnx_source_needs_no_torch_and_does_not_depend_on_its_version() -> None:
    plan = onnx_plan()
    assert plan.step("gate/teacher-reference").pass_name == "onnx-teacher-reference"
    assert [step.id for step in plan.steps if {"torch", "transformers"} & set(PASSES[step.pass_name].needs)] == []
    tools = {need: "1.0" for entry in PASSES.values() for need in entry.needs}
    assert keys(onnx_plan(toolchain={**tools, "torch": "2.0"})) == keys(plan)
    other = keys(onnx_plan(toolchain={**tools, "onnxruntime": "2.0"}))
    assert other["gate/teacher-reference"] != keys(plan)["gate/teacher-reference"]


@pytest.mark.parametrize(
    ("edits", "field"),
    [({}, "spec.source.uri"), ({"spec.distill": GONE}, "spec.compress.precision")],
    ids=["as a teacher", "as every precision"],
)
def test_what_an_onnx_source_cannot_do_is_refused(edits: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as refused:
        onnx_plan(edits)
    assert refused.value.problem.field == field
    assert refused.value.problem.fix


@pytest.mark.parametrize("name", ["student", "teacher-outputs"])
def test_a_stage_cannot_take_the_name_of_another_step(name: str) -> None:
    with pytest.raises(SpecError) as refused:
        plan_of(edits={"spec.distill.stages[0].name": name})
    assert refused.value.problem.field == "spec.distill.stages"


def test_an_unnamed_stage_cannot_collide_with_a_named_one() -> None:
    with pytest.raises(SpecError):
        plan_of(edits={"spec.distill.stages[0].name": "stage-2", "spec.distill.stages[1].name": GONE})


def test_units_reach_the_gate_as_plain_numbers() -> None:
    config = plan_of().step("gate/gate").config
    assert config["limits"] == {"latencyP50": 0.005, "latencyP99": 0.02, "throughput": 100.5, "size": 12 * 2**20}
    assert config["metrics"][0] == {"name": "mrr@10", "min": 0.7, "max": None, "of": "teacher"}
    assert config["serve"]["queueTimeout"] == 1.0
    assert config["serve"]["maxQueueDelay"] == 0.0005
    assert config["serve"]["cpus"] == 1.0
    assert config["serve"]["memory"] == 512 * 2**20


def test_a_stage_may_have_any_name_that_nothing_of_its_own_resource_has() -> None:
    assert plan_of("text", {"spec.distill.stages[0].name": "pooled"}).find("train/pooled") is not None
