"""How long a plan says that its steps will take: by rows, tokens, layers, and the start of torch once."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from tests.support.api_objects import GONE, complete, edited
from tests.support.plans import environment, models, onnx_plan, plan_of

from stillhouse.api.load import parse
from stillhouse.api.model import DistilledModel
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

STATIC: dict[str, Any] = {
    "spec.distill.student.init": "static",
    "spec.distill.student.vocabulary": {"maxSize": 16_000},
    "spec.distill.data.maxRows": GONE,
}


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


def test_work_on_copies_is_estimated_by_their_number() -> None:
    model = parse(complete("class"))
    env = environment(model)
    plan = build_plan(model, env)
    rows = 2 * 20_000  # the data and the pool
    found = {step: work_of(plan.step(step), plan, env) for step in ("train/deduplicated", "train/augmented", "train/stage-1")}
    assert found["train/deduplicated"][0] == rows
    assert found["train/augmented"][0] == 2 * rows
    assert found["train/stage-1"][1]["rows"] == 3 * rows
