"""The shape of plans: what follows what, for the specs that are known and for any valid one."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from tests.support.api_objects import GONE, complete, edited
from tests.support.plans import environment, keys, models, onnx_plan, plan_of

from stillhouse.api.load import parse
from stillhouse.api.model import DistilledModel
from stillhouse.digests import content_hash
from stillhouse.errors import SpecError
from stillhouse.planning.build import build_plan
from stillhouse.planning.estimate import (
    FIT_ROWS,
    PROJECTION_ROWS,
    SECONDS_PER_UNIT,
    STUDENT_SHARE,
    TORCH_SECONDS,
    estimate,
    start_of_torch,
    work_of,
)
from stillhouse.planning.manifest import PASSES
from stillhouse.planning.plan import STAGES, Plan
from stillhouse.planning.preparing import copied


def ids(plan: Plan) -> list[str]:
    return [step.id for step in plan.steps]


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


@settings(max_examples=25, deadline=None)
@given(models())
def test_every_step_has_an_estimate(model: DistilledModel) -> None:
    env = environment(model)
    plan = build_plan(model, env)
    for step in plan.steps:
        found = estimate(step, plan, env)
        assert found.seconds > 0
        assert math.isfinite(found.seconds)
        assert found.memory > 0
        assert found.disk >= 0
        assert estimate(step, plan, env, {step.pass_name: 2 * SECONDS_PER_UNIT[step.pass_name]}).seconds == pytest.approx(
            2 * found.seconds
        )


@pytest.mark.parametrize("form", ["openvino", "litert", "coreml", "tensorrt"])
@pytest.mark.parametrize("distilled", [True, False])
def test_exports_are_estimated(form: str, distilled: bool) -> None:
    edits = {"spec.export": [{"format": form}], **({} if distilled else {"spec.distill": GONE, "spec.edge": GONE})}
    model = parse(edited(complete("text"), edits))
    plan, env = plan_of("text", edits), environment(model)
    found = estimate(plan.step(f"compress/export-{form}"), plan, env)
    assert found.seconds == pytest.approx((STUDENT_SHARE if distilled else 1) * SECONDS_PER_UNIT[f"export-{form}"])
    assert found.disk > 1 << 20, "a model is written"


STATIC: dict[str, Any] = {
    "spec.distill.student.init": "static",
    "spec.distill.student.vocabulary": {"maxSize": 16_000},
    "spec.distill.data.maxRows": GONE,
}


def test_the_gate_is_estimated_by_what_it_sends_and_judges() -> None:
    """Seconds, not a minute, for some hundred rows and requests; and the more of them, the longer."""

    def seconds(rows: int, requests: int) -> float:
        model = parse(edited(complete("text"), {"spec.gate.load.requests": requests}))
        env = environment(model)
        pins = {
            uri: dataclasses.replace(pin, info={"rows": rows}) if "rows" in pin.info else pin for uri, pin in env.pins.items()
        }
        plan = build_plan(model, dataclasses.replace(env, pins=pins))
        return estimate(plan.step("gate/gate"), plan, dataclasses.replace(env, pins=pins)).seconds

    assert 1 < seconds(270, 500) < 6
    assert seconds(270, 500) < seconds(2_000, 500) < seconds(2_000, 20_000)


def seconds_of_student(edits: dict[str, Any], rows: int = 20_000) -> float:
    """Return the estimate of making the student; the teacher has 6 layers of 384 and 30,522 tokens."""
    model = parse(edited(complete("text"), {**STATIC, **edits}))
    env = environment(model)
    pins = {uri: dataclasses.replace(pin, info={"rows": rows}) if "rows" in pin.info else pin for uri, pin in env.pins.items()}
    env = dataclasses.replace(env, pins=pins)
    plan = build_plan(model, env)
    return estimate(plan.step("train/student"), plan, env).seconds


def test_a_hidden_loss_without_a_layer_keeps_the_teachers_last() -> None:
    assert plan_of("text").step("train/teacher-outputs").config["layers"] == [3]
    plan = plan_of("text", {"spec.distill.stages[0].losses[2].layer": GONE})
    assert plan.step("train/teacher-outputs").config["layers"] == [-1]


def test_a_residual_students_fit_is_estimated() -> None:
    made = seconds_of_student({}, rows=FIT_ROWS)
    assert 35 < made < 80, "about 40 s for the tokens and 12 s, on two cores, for the regression"
    assert seconds_of_student({}, rows=10 * FIT_ROWS) == made, "more rows are not fitted to"
    assert seconds_of_student({}, rows=FIT_ROWS // 2) < made
    fewer = seconds_of_student({"spec.distill.student.vocabulary": {"maxSize": 4_000}}, rows=FIT_ROWS)
    assert fewer < made - 20, "the teacher is asked about every token"


def test_an_encoders_projection_is_estimated() -> None:
    narrow = {"spec.distill.student.architecture": "encoder", "spec.distill.student.hiddenSize": 96}
    svd = {**narrow, "spec.distill.student.init": "svd"}
    bare = seconds_of_student({**narrow, "spec.distill.student.init": "random"})
    assert bare < 6, "nothing but the vocabulary"
    fitted = seconds_of_student(svd, rows=PROJECTION_ROWS)
    assert 15 < fitted - bare < 30, "the teacher reads 2,048 texts in about 19 s, the student in a second"
    assert seconds_of_student(svd, rows=10 * PROJECTION_ROWS) == fitted, "more rows are not fitted to"
    assert seconds_of_student(svd, rows=PROJECTION_ROWS // 2) < fitted - 5
    same = {"spec.distill.student.hiddenSize": GONE, "spec.distill.student.init": "layers"}
    assert seconds_of_student({**narrow, **same}) == bare, "whole layers keep the teacher's space"
    static = seconds_of_student({**narrow, "spec.distill.student.init": "static"}, rows=PROJECTION_ROWS)
    assert static > fitted + 10, "the tokens, and the projection"


def test_the_start_of_torch_is_counted_once() -> None:
    plan = plan_of()
    assert start_of_torch(plan.steps) == {"train/teacher-outputs": TORCH_SECONDS}
    rest = [step for step in plan.steps if step.stage in {"compress", "gate"}]
    assert start_of_torch(rest) == {"compress/fp32": TORCH_SECONDS}
    assert start_of_torch(step for step in rest if "torch" not in PASSES[step.pass_name].needs) == {}
    assert start_of_torch(onnx_plan().steps) == {}


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


@pytest.mark.parametrize(
    ("precision", "ladder"),
    [("auto", ["int8", "int8-mixed", "fp32"]), *((each, [each]) for each in ("int8", "fp32", "int4", "mixed", "fp16", "bf16"))],
)
def test_the_ladder_follows_the_precision(precision: str, ladder: list[str]) -> None:
    plan = plan_of(edits={"spec.compress.precision": precision})
    assert plan.step("gate/gate").config["candidates"] == ladder
    assert ("compress/sensitivity" in ids(plan)) == (precision == "auto")


RANGED = ("int8-static", "int8-static-mixed")


@pytest.mark.parametrize(
    ("goal", "ladder"),
    [
        ("fast", [*RANGED, "int8", "int8-mixed", "fp32"]),
        *((each, [*RANGED, "int8", "int8-mixed", "mixed", "int4", "fp32"]) for each in ("small", "balanced")),
    ],
)
def test_a_goal_of_few_bytes_has_more_candidates(goal: str, ladder: list[str]) -> None:
    plan = plan_of(edits={"spec.compress.goal": goal})
    assert plan.step("gate/gate").config["candidates"] == ladder
    alone = {"spec.compress": {"goal": goal}, "spec.distill": GONE}
    without = [each for each in ladder if "mixed" not in each and "static" not in each]
    assert plan_of(edits=alone).step("gate/gate").config["candidates"] == without, "what is lost is measured on calibration data"


def test_int4_is_rounded_on_calibration_data_where_there_is_some() -> None:
    def step(**compress: Any) -> Any:
        return plan_of(edits={"spec.compress": {"precision": "int4", **compress}, "spec.distill": GONE}).step("compress/int4")

    given = {"calibration": {"uri": "data:calibration"}}
    assert step().config == {"blockSize": 32, "method": "rtn", "activations": "int8", "threads": 1}
    assert step().parents == {"model": "compress/fp32"}
    assert (step(**given).config["method"], step(**given).parents["data"]) == ("gptq", "resolve/calibration")
    assert "data" not in step(**given, int4={"method": "rtn"}).parents


def test_a_budget_changes_what_is_chosen_and_not_what_was_measured() -> None:
    def plan(**mixed: Any) -> Plan:
        return plan_of(edits={"spec.compress": {"precision": "mixed", "mixed": mixed}})

    before, after = keys(plan()), keys(plan(maxLoss="2%"))
    assert {step for step in before if before[step] != after[step]} == {
        "compress/mixed",
        "gate/gate",
        "gate/index",
        "gate/cascade",
    }
    assert plan().step("compress/mixed").config["maxLoss"] == 0.01


@pytest.mark.parametrize(
    ("base", "compress", "ladder"),
    [
        ("text", {"precision": "int8", "int8": {}}, ["int8-static"]),
        ("text", {"precision": "int8", "int8": {"ranges": "dynamic"}}, ["int8"]),
        ("text", {"int8": {}}, ["int8-static", "int8-static-mixed", "int8", "int8-mixed", "fp32"]),
        ("text", {"goal": "fast"}, ["int8-static", "int8-static-mixed", "int8", "int8-mixed", "fp32"]),
        ("image", {}, ["int8-static", "int8-static-mixed", "int8", "int8-mixed", "fp32"]),
        ("image", {"int8": {"ranges": "dynamic"}}, ["int8", "int8-mixed", "fp32"]),
    ],
)
def test_static_ranges_are_tried_where_they_are_asked_for_or_gain(base: str, compress: dict[str, Any], ladder: list[str]) -> None:
    plan = plan_of(base, {"spec.compress": compress})
    assert plan.step("gate/gate").config["candidates"] == ladder
    made = plan.find("compress/int8-static")
    assert (made is not None) == ("int8-static" in ladder)
    if made is not None and base == "text":  # the image has no gate
        assert made.parents["data"] in plan.step("gate/gate").parents.values(), "the gate sees what was calibrated on"


@pytest.mark.parametrize(
    ("compress", "ladder"),
    [
        ({"precision": "int8", "qat": {}}, ["int8-qat"]),
        ({"precision": "int8", "qat": {}, "int8": {}}, ["int8-qat"]),
        ({"qat": {}}, ["int8-qat", "int8", "int8-mixed", "fp32"]),
        ({"qat": {}, "goal": "fast"}, ["int8-qat", *RANGED, "int8", "int8-mixed", "fp32"]),
    ],
)
def test_int8_that_is_learned_is_tried_first_where_it_is_asked_for(compress: dict[str, Any], ladder: list[str]) -> None:
    plan = plan_of(edits={"spec.compress": compress})
    assert plan.step("gate/gate").config["candidates"] == ladder
    assert plan.step("compress/int8-qat").parents == {
        "model": "compress/qat-fp32",
        "trained": "train/qat",
        "data": "resolve/data",
    }
    assert plan.step("compress/qat-fp32").config == plan_of().step("compress/fp32").config


def test_a_student_learns_int8_as_its_last_stage_ended() -> None:
    last = {
        "losses": [{"kind": "embedding", "weight": "4", "weightSchedule": {"to": "2"}}],
        "batchSize": 32,
        "embeddingLearningRate": "0.01",
        "freeze": {"layers": 1},
        "earlyStopping": {},
        "prune": {"neurons": "50%"},
        "mixedPrecision": "bf16",
    }
    edits = {"spec.distill.stages": [last], "spec.compress.qat": {"epochs": 2, "learningRate": "0.0002"}}
    plan = plan_of(edits={**edits, "spec.compress.int8": {"ranges": "percentile", "balance": "0.25"}})
    before, step = plan.step("train/stage-1"), plan.step("train/qat")
    assert step.parents == {**before.parents, "student": "train/stage-1", "calibration": "resolve/calibration"}
    assert step.pass_name == "distill"
    (loss,) = step.config["losses"]
    assert (loss["weight"], "weightCourse" in loss) == (2.0, False)
    same = ("batchSize", "maxLength", "weightDecay", "warmup", "freeze")
    assert {name: step.config[name] for name in same} == {name: before.config[name] for name in same}
    assert (step.config["epochs"], step.config["learningRate"], step.config["embeddingLearningRate"]) == (2, 0.0002, None)
    assert not {"prune", "earlyStopping", "mixedPrecision"} & set(step.config)
    assert step.config["seed"] != before.config["seed"]
    assert step.config["quantize"] == {
        **{"ranges": "percentile", "percentile": 99.999, "balance": 0.25},
        **{"samples": 128, "reduceRange": False},
    }
    assert plan.step("compress/int8-qat").config == step.config["quantize"], "written as it was learned"


def test_a_stage_cannot_be_called_as_what_comes_after_it() -> None:
    with pytest.raises(SpecError, match="names of their own") as raised:
        plan_of(edits={"spec.distill.stages": [{"name": "qat", "losses": [{"kind": "embedding"}]}], "spec.compress.qat": {}})
    assert raised.value.problem.field == "spec.distill.stages"


def test_without_calibration_data_the_middle_rung_is_left_out_and_said() -> None:
    plan = plan_of(edits={"spec.distill": GONE, "spec.compress.calibration": GONE})
    assert plan.step("gate/gate").config["candidates"] == ["int8", "fp32"]
    assert any("calibration" in note for note in plan.notes)


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


def test_a_cut_is_made_of_what_the_gate_let_through_and_held_against_its_rows() -> None:
    edge = {"cut": {"layer": "encoder.2", "encoding": "int8-rows", "maxDifference": "0.05"}}
    plan = plan_of(edits={"spec.edge": edge})
    step = plan.step("gate/cut")
    assert (step.pass_name, dict(step.parents)) == ("cut", {"model": "gate/gate", "data": "resolve/gate-data"})
    assert step.config == {"at": ["encoder.2"], "encoding": "int8-rows", "maxDifference": 0.05}
    assert "gate/cut" in plan.targets
    other = plan_of(edits={"spec.edge": {"cut": {**edge["cut"], "layer": "encoder.3"}}})
    assert {each.id for each in plan.steps if each.key != other.step(each.id).key} == {"gate/cut"}
    assert plan.request_hash != other.request_hash
    assert plan_of(edits={"spec.edge": {}}).find("gate/cut") is None


# what is done with the rows before ------------------------------------------------------------------------------------------


def test_rows_are_pooled_deduplicated_balanced_and_augmented_in_this_order_and_learned_from_at_the_end() -> None:
    plan = plan_of("class", {"spec.distill.validation": {"uri": "file://validation.csv"}})
    made = [step.id for step in plan.steps if step.stage == "train"]
    assert made == [
        "train/pooled",
        "train/deduplicated",
        "train/balanced",
        "train/augmented",
        "train/data-report",
        "train/teacher-outputs",
        "train/stage-1",
    ]
    parents = {step.id: dict(step.parents) for step in plan.steps}
    assert parents["train/pooled"] == {"data": "resolve/data", "unlabelled": "resolve/unlabelled"}
    assert parents["train/deduplicated"] == {
        "data": "train/pooled",
        "validation": "resolve/validation",
        "gate": "resolve/gate-data",
        "threshold": "resolve/cascade-threshold",
    }
    assert parents["train/balanced"] == {"data": "train/deduplicated"}
    assert parents["train/augmented"] == {"data": "train/balanced", "teacher": "resolve/source"}
    assert {parents[step]["data"] for step in ("train/teacher-outputs", "train/stage-1")} == {"train/augmented"}
    # Copies are no rows to judge or to calibrate by; what is left of the data is.
    assert parents["gate/gate"]["training"] == parents["compress/sensitivity"]["data"] == "train/deduplicated"
    assert parents["gate/cascade"]["training"] == "train/deduplicated"
    assert "unlabelled" not in parents["gate/gate"]
    assert parents["train/data-report"]["training"] == "train/deduplicated"
    assert parents["train/data-report"]["trained"] == "train/augmented"
    assert "train/data-report" in plan.targets
    assert len({step.id for step in plan.steps}) == len(plan.steps)


def test_contrastive_learns_from_copies_that_have_no_labels() -> None:
    edits: dict[str, Any] = {
        "spec.distill.data.columns": {"group": "id"},
        "spec.distill.stages": [{"losses": [{"kind": "contrastive"}]}],
    }
    plan = plan_of("text", {**edits, "spec.distill.augment": {"operations": [{"kind": "delete"}]}})
    assert plan.step("train/augmented").config["labels"] == "teacher"
    assert plan.find("train/teacher-outputs") is None, "nobody asks the teacher"
    assert [step.id for step in plan.steps if copied(plan, step)] == ["resolve/data"]
    plain = plan_of("text", edits)
    assert not any(copied(plain, step) for step in plain.steps)


def test_what_is_not_held_against_those_that_judge_is_held_against_them_as_it_was_imported() -> None:
    plan = plan_of("class", {"spec.distill.deduplicate.heldOut": False})
    gate = plan.step("gate/gate").parents
    assert (gate["training"], gate["unlabelled"]) == ("resolve/data", "resolve/unlabelled")
    assert plan.step("train/deduplicated").parents == {"data": "train/pooled"}


def test_a_report_alone_changes_nothing_that_is_made() -> None:
    plain, told = plan_of("text"), plan_of("text", {"spec.distill.report": True})
    assert keys(told).items() - keys(plain).items() == {("train/data-report", told.step("train/data-report").key)}
    assert "train/data-report" not in keys(plan_of("class", {"spec.distill.report": False}))


def test_the_seed_changes_what_is_drawn_of_the_rows() -> None:
    one, other = (plan_of("class", {"spec.distill.seed": seed}) for seed in (1, 2))
    drawn = {"train/balanced", "train/augmented"}
    same = {step.id for step in other.steps if step.stage == "train" and keys(one)[step.id] == step.key}
    assert same == {"train/pooled", "train/deduplicated"}
    assert all(keys(one)[step] != keys(other)[step] for step in drawn)


@pytest.mark.parametrize(
    ("base", "edits", "says"),
    [
        ("image", {"spec.distill.augment.operations[1].kind": "mask"}, "mask is no operation on images"),
        ("class", {"spec.distill.augment.operations[1].kind": "noise"}, "noise is no operation on texts"),
        ("image", {"spec.distill.augment.labels": "teacher"}, "no loss asks the teacher"),
        ("class", {"spec.distill.stages[0].name": "pooled"}, "stages need names of their own"),
    ],
)
def test_what_cannot_be_made_of_rows_is_refused_on_paper(base: str, edits: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        plan_of(base, edits)


def test_a_stage_may_have_any_name_that_nothing_of_its_own_resource_has() -> None:
    assert plan_of("text", {"spec.distill.stages[0].name": "pooled"}).find("train/pooled") is not None


def test_work_on_copies_is_estimated_by_their_number() -> None:
    model = parse(complete("class"))
    env = environment(model)
    plan = build_plan(model, env)
    rows = 2 * 20_000  # the data and the pool
    found = {step: work_of(plan.step(step), plan, env) for step in ("train/deduplicated", "train/augmented", "train/stage-1")}
    assert found["train/deduplicated"][0] == rows
    assert found["train/augmented"][0] == 2 * rows
    assert found["train/stage-1"][1]["rows"] == 3 * rows
