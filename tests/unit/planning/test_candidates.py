"""Which candidates a precision, a goal and the data lead to, and in which order they are tried."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.api_objects import GONE
from tests.support.plans import ids, keys, plan_of

from stillhouse.planning.plan import Plan

RANGED = ("int8-static", "int8-static-mixed")


@pytest.mark.parametrize(
    ("precision", "ladder"),
    [("auto", ["int8", "int8-mixed", "fp32"]), *((each, [each]) for each in ("int8", "fp32", "int4", "mixed", "fp16", "bf16"))],
)
def test_the_ladder_follows_the_precision(precision: str, ladder: list[str]) -> None:
    plan = plan_of(edits={"spec.compress.precision": precision})
    assert plan.step("gate/gate").config["candidates"] == ladder
    assert ("compress/sensitivity" in ids(plan)) == (precision == "auto")


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


def test_without_calibration_data_the_middle_rung_is_left_out_and_said() -> None:
    plan = plan_of(edits={"spec.distill": GONE, "spec.compress.calibration": GONE})
    assert plan.step("gate/gate").config["candidates"] == ["int8", "fp32"]
    assert any("calibration" in note for note in plan.notes)


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
