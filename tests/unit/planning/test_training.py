"""What a stage's configuration holds: nothing that came later and is not set, so that older requests keep their keys."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.api_objects import complete, edited
from tests.support.plans import environment, plan_of

from stillhouse.api.load import parse
from stillhouse.planning.build import build_plan
from stillhouse.planning.estimate import ROUNDING, work_of
from stillhouse.planning.plan import Plan

STAGE = {
    "stage", "losses", "epochs", "batchSize", "learningRate", "embeddingLearningRate", "warmup", "weightDecay", "maxLength",
    "checkpointSteps", "seed",
}  # fmt: skip
LOSS = {"kind", "weight", "distance", "temperature", "alpha", "layer", "keys"}
_LOSS = "spec.distill.stages[0].losses[0]"


def stage_of(base: str, edits: dict[str, Any], name: str = "soft") -> dict[str, Any]:
    plan = plan_of(base, edits=edits)
    (found,) = (step.config for step in plan.steps if step.id == f"train/{name}")
    return dict(found)


def test_what_is_not_set_is_not_written() -> None:
    (outputs,) = (step.config for step in plan_of().steps if step.id == "train/teacher-outputs")
    assert set(outputs) == {"outputs", "maxLength", "layers", "shardRows"}
    stage = stage_of("text", {})
    assert set(stage) == STAGE
    assert all(set(loss) == LOSS for loss in stage["losses"])


@pytest.mark.parametrize(
    ("loss", "written"),
    [
        ({"labelSmoothing": "0.10"}, {"labelSmoothing": 0.1}),
        ({"labelSmoothing": "0"}, {}),
        ({"classWeights": {"balanced": True}}, {"classWeights": "balanced"}),
        ({"classWeights": {"byLabel": {"a": "2.0"}}}, {"classWeights": {"a": 2.0}}),
        ({"weightSchedule": {"to": "0"}}, {"weightCourse": {"to": 0.0, "shape": "linear"}}),
    ],
)
def test_what_is_set_is_written_as_numbers(loss: dict[str, Any], written: dict[str, Any]) -> None:
    losses = [{"kind": "hard", **loss}, {"kind": "jsd"}]
    found, _ = stage_of("class", {"spec.distill.stages[0].losses": losses}, "stage-1")["losses"]
    assert {name: value for name, value in found.items() if name not in LOSS} == written


def test_the_largest_logits_are_asked_for_where_logits_are() -> None:
    def asked(losses: list[dict[str, Any]]) -> dict[str, Any]:
        plan = plan_of("class", edits={"spec.distill.topLogits": 3, "spec.distill.stages[0].losses": losses})
        (found,) = (dict(step.config) for step in plan.steps if step.id == "train/teacher-outputs")
        return found

    assert asked([{"kind": "jsd"}])["topLogits"] == 3
    assert "topLogits" not in asked([{"kind": "hidden"}])


@pytest.mark.parametrize(
    ("field", "value", "written"),
    [
        ("mixedPrecision", "auto", "auto"),
        ("freeze", {"layers": 2}, {"embeddings": False, "layers": 2}),
        ("freeze", {"embeddings": True}, {"embeddings": True, "layers": 0}),
        ("progressive", "stacked", "stacked"),
        ("prune", {"neurons": "90%"}, {"neurons": 0.9, "by": "taylor", "recovery": 0.4}),
        ("prune", {"heads": "5%", "by": "magnitude", "recovery": "0%"}, {"heads": 0.05, "by": "magnitude", "recovery": 0.0}),
        ("earlyStopping", {}, {"patience": 3, "minGain": 0.0}),
        ("earlyStopping", {"patience": 2, "minGain": "0.001"}, {"patience": 2, "minGain": 0.001}),
    ],
)
def test_what_a_stage_is_told_is_written(field: str, value: Any, written: Any) -> None:
    stage = stage_of("text", {f"spec.distill.stages[0].{field}": value})
    assert {name: found for name, found in stage.items() if name not in STAGE} == {field: written}


def test_zeros_go_by_magnitude_where_nothing_is_said() -> None:
    stages = [{"losses": [{"kind": "embedding"}], "prune": {"weights": "90%"}}]
    assert stage_of("text", {"spec.distill.stages": stages}, "stage-1")["prune"] == {
        "weights": 0.9,
        "by": "magnitude",
        "recovery": 0.4,
    }


def test_sorting_weights_is_estimated() -> None:
    stage = {"losses": [{"kind": "embedding"}]}
    work = []
    for prune in ({}, {"prune": {"neurons": "90%"}}, {"prune": {"weights": "90%"}}):
        model = parse(edited(complete("text"), {"spec.distill.stages": [{**stage, **prune}]}))
        plan = build_plan(model, environment(model))
        work.append(work_of(plan.step("train/stage-1"), plan, environment(model))[0])
    assert work[0] == work[1] < work[2]


def test_rounding_is_estimated() -> None:
    edits = {"spec.distill.stages": [{"losses": [{"kind": "embedding"}], "epochs": 2}], "spec.compress.qat": {"epochs": 2}}
    model = parse(edited(complete("text"), edits))
    plan = build_plan(model, environment(model))
    stage, rounded = (work_of(plan.step(name), plan, environment(model))[0] for name in ("train/stage-1", "train/qat"))
    assert ROUNDING * stage < rounded < 1.1 * ROUNDING * stage, "and ranges are read"


def test_pairs_of_layers_are_a_term_each_and_share_the_weight() -> None:
    loss = {
        "kind": "hidden-tokens",
        "weight": "0.6",
        "weightSchedule": {"to": "0.2"},
        "layers": [{"teacher": 3, "student": 1}, {"teacher": 6}],
    }
    stage = stage_of("text", {"spec.distill.stages[0].losses": [loss]})
    first, second = stage["losses"]
    assert [each["weight"] for each in (first, second)] == [0.3, 0.3]
    assert [each["weightCourse"]["to"] for each in (first, second)] == [0.1, 0.1]
    assert (first["layer"], first["studentLayer"]) == (3, 1)
    assert second["layer"] == 6
    assert "studentLayer" not in second


def test_a_teacher_that_reads_along_keeps_nothing_and_is_estimated() -> None:
    model = parse(edited(complete("text"), {"spec.distill.student.init": "random"}))
    env = environment(model)

    def plan(kind: str) -> Plan:
        stages = [{"losses": [{"kind": kind}]}]
        edits = {"spec.distill.stages": stages, "spec.distill.student.init": "random"}
        return build_plan(parse(edited(complete("text"), edits)), env)

    along, hidden = plan("value-relation"), plan("hidden")
    assert along.find("train/teacher-outputs") is None
    assert hidden.find("train/teacher-outputs") is not None
    work = [work_of(each.step("train/stage-1"), each, env)[0] for each in (along, hidden)]
    assert work[0] > work[1]
    kept = plan_of(
        "text", edits={"spec.distill.stages": [{"losses": [{"kind": "hidden", "layers": [{"teacher": 2}, {"teacher": 5}]}]}]}
    )
    assert next(step.config["layers"] for step in kept.steps if step.id == "train/teacher-outputs") == [2, 5]


def test_what_is_wrong_with_a_function_is_told_before_the_teacher_reads() -> None:
    student = {"spec.distill.student": {"factory": {"target": "factories:make"}}}
    ids = [step.id for step in plan_of("text", edits=student).steps]
    assert ids.index("train/student") < ids.index("train/teacher-outputs")
    plain = [step.id for step in plan_of("text").steps]
    assert plain.index("train/student") > plain.index("train/teacher-outputs")
