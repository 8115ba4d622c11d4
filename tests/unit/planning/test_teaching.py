"""Who teaches whom, as steps: several teachers, assistants between, a source that is fine-tuned first."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.support.api_objects import GONE, complete, edited
from tests.support.plans import environment, keys, plan_of

from stillhouse.api.load import parse
from stillhouse.entrypoints.local.advice import advice
from stillhouse.errors import Problem, SpecError
from stillhouse.planning.build import build_plan
from stillhouse.planning.estimate import estimate
from stillhouse.planning.fields import as_written
from stillhouse.planning.plan import Plan

SHAPE = {"hiddenLayers": 1, "hiddenSize": 96}
PLAIN: dict[str, Any] = {
    "spec.distill.student": SHAPE,
    **{f"spec.distill.{field}": GONE for field in ("unlabelled", "deduplicate", "balance", "augment", "report")},
}
TEACHERS = [{"uri": "file://teacher"}, {"uri": "models:b", "weight": "0"}, {"uri": "models:c", "weight": "2", "maxLength": 64}]
ASSISTANT = {"student": {"hiddenLayers": 3, "hiddenSize": 192}, "stages": [{"name": "soft", "losses": [{"kind": "logits"}]}]}
TUNE = {"data": {"uri": "data:t"}, "validation": {"uri": "data:tv"}}


def plan(edits: dict[str, Any], base: str = "class") -> Plan:
    return plan_of(base, {**PLAIN, **edits} if base == "class" else edits)


def parents(found: Plan, step_id: str) -> dict[str, str]:
    return dict(found.step(step_id).parents)


def test_each_teacher_is_asked_once_and_what_they_say_is_combined() -> None:
    found = plan({"spec.distill.teachers": TEACHERS, "spec.distill.topLogits": 1})
    assert [step.id for step in found.steps if "teacher-" in step.id and step.stage != "gate"] == [
        "resolve/teacher-3",
        "train/teacher-1-outputs",
        "train/teacher-3-outputs",
        "train/teacher-outputs",
    ], "the source is imported already, and a teacher of weight 0 is not asked"
    assert found.step("train/teacher-3-outputs").config["maxLength"] == 64
    assert "topLogits" not in found.step("train/teacher-3-outputs").config
    combine = found.step("train/teacher-outputs")
    assert combine.config == {"output": "logits", "weights": {"0": 1.0, "2": 2.0}, "weighting": "fixed", "topLogits": 1}
    assert combine.parents == {
        "teacher": "resolve/source",
        "model-0": "resolve/source",
        "outputs-0": "train/teacher-1-outputs",
        "model-2": "resolve/teacher-3",
        "outputs-2": "train/teacher-3-outputs",
    }
    assert parents(found, "train/stage-1")["outputs"] == "train/teacher-outputs"


def test_learned_weights_ask_about_the_validation_too() -> None:
    teachers = [{"uri": "models:b"}, {"uri": "models:c"}]
    validation = {"spec.distill.validation": {"uri": "data:v"}}
    found = plan({"spec.distill.teachers": teachers, "spec.distill.weighting": "learned", **validation})
    assert parents(found, "train/teacher-2-validation") == {"teacher": "resolve/teacher-2", "data": "resolve/validation"}
    assert parents(found, "train/teacher-outputs")["validation"] == "resolve/validation"
    assert parents(found, "train/teacher-outputs")["judged-1"] == "train/teacher-2-validation"


def test_another_weight_asks_nobody_again() -> None:
    before = keys(plan({"spec.distill.teachers": [{"uri": "models:b"}, {"uri": "models:c"}]}))
    after = keys(plan({"spec.distill.teachers": [{"uri": "models:b"}, {"uri": "models:c", "weight": "3"}]}))
    again = {step for step in before if before[step] != after[step]}
    assert {"train/teacher-outputs", "train/stage-1"} <= again
    assert not again & {"train/teacher-1-outputs", "train/teacher-2-outputs", "train/student"}


def test_teachers_whom_nobody_asks_are_refused() -> None:
    with pytest.raises(SpecError, match="nobody asks") as caught:
        plan({"spec.distill.teachers": TEACHERS, "spec.distill.stages": [{"losses": [{"kind": "hard"}]}]})
    assert caught.value.problem.field == "spec.distill.teachers"


def test_a_residual_student_is_not_fitted_to_embeddings_side_by_side() -> None:
    stages = [{"losses": [{"kind": "similarity"}]}]
    edits = {"spec.distill.student": {"hiddenSize": 64}, "spec.distill.stages": stages}
    assert "outputs" in parents(plan(edits, "text"), "train/student")
    assert "outputs" not in parents(plan({**edits, "spec.distill.teachers": [{"uri": "models:b"}]}, "text"), "train/student")


def test_a_chain_goes_from_the_teacher_to_the_student() -> None:
    found = plan({"spec.distill.assistants": [ASSISTANT, {**ASSISTANT, "student": {"uri": "models:between"}}]})
    assert [step.id for step in found.steps if step.stage == "train"] == [
        "train/teacher-outputs",
        "train/assistant-1",
        "train/assistant-1-soft",
        "train/assistant-1-outputs",
        "train/assistant-2-soft",
        "train/assistant-2-outputs",
        "train/student",
        "train/stage-1",
    ]
    assert (found.step("train/assistant-2").pass_name, found.step("train/assistant-2").stage) == ("import-model", "resolve")
    assert parents(found, "train/assistant-1") == {"teacher": "resolve/source", "data": "resolve/data"}
    assert parents(found, "train/assistant-1-outputs") == {"teacher": "train/assistant-1-soft", "data": "resolve/data"}
    last = parents(found, "train/stage-1")
    assert (last["teacher"], last["outputs"]) == ("train/assistant-2-soft", "train/assistant-2-outputs")
    assert parents(found, "train/student")["teacher"] == "resolve/source"
    assert parents(found, "gate/teacher-reference")["teacher"] == "resolve/source"
    seeds = {found.step(step).config["seed"] for step in ("train/assistant-1", "train/student")}
    assert len(seeds) == 2


def test_only_who_is_served_is_tried_to_be_exported() -> None:
    """An assistant of a kind that ONNX cannot hold is as good a teacher as any."""
    own = {"factory": {"target": "factories:make"}}
    found = plan({"spec.distill.student": own, "spec.distill.assistants": [{**ASSISTANT, "student": own}]})
    assert found.step("train/assistant-1").config["exported"] is False
    assert "exported" not in found.step("train/student").config, "true when it is left out"
    assert "exported" not in plan({"spec.distill.assistants": [ASSISTANT]}).step("train/assistant-1").config


def test_a_search_makes_of_the_source_and_learns_from_the_assistant() -> None:
    assistant = {"student": {"hiddenLayers": 3}, "stages": [{"losses": [{"kind": "embedding"}]}]}
    edits = {
        "spec.distill.student": {"hiddenSize": 64},
        "spec.distill.search": {"hiddenLayers": [1, 2]},
        "spec.distill.assistants": [assistant],
    }
    search = parents(plan(edits, "text"), "train/search")
    assert (search["teacher"], search["origin"]) == ("train/assistant-1-stage-1", "resolve/source")


@pytest.mark.parametrize(
    ("student", "init", "architecture"),
    [
        ({}, "svd", "encoder"), ({"architecture": "encoder"}, "svd", "encoder"), ({"init": "random"}, "random", "encoder"),
        ({"architecture": "residual"}, "static", "residual"),
    ],
)  # fmt: skip
def test_shapes_of_searched_widths_begin_as_every_width_can(student: dict[str, Any], init: str, architecture: str) -> None:
    edits = {"spec.distill.student": student, "spec.distill.search": {"hiddenSize": [64, 96]}}
    made = plan(edits, "text").step("train/student").config
    assert (made["init"], made["architecture"]) == (init, architecture)


def test_an_assistants_work_is_estimated_by_its_own_shape() -> None:
    model = parse(edited(complete("class"), {**PLAIN, "spec.distill.assistants": [ASSISTANT]}))
    env = environment(model)
    found = build_plan(model, env)

    def seconds(step_id: str) -> float:
        return estimate(found.step(step_id), found, env).seconds

    assert seconds("train/assistant-1-soft") > 5 * seconds("train/stage-1")
    assert seconds("train/teacher-outputs") > 5 * seconds("train/assistant-1-outputs")


def test_what_is_fine_tuned_is_the_teacher_from_then_on() -> None:
    found = plan({"spec.source.fineTune": TUNE, "spec.source.labels": GONE})
    encoder = found.step("resolve/source")
    assert (encoder.config["task"], encoder.config["labels"]) == ("sentence-embedding", None)
    assert parents(found, "train/teacher") == {
        "encoder": "resolve/source",
        "data": "resolve/fine-tune-data",
        "validation": "resolve/fine-tune-validation",
    }
    for step in ("train/teacher-outputs", "train/student", "train/stage-1", "gate/teacher-reference", "gate/larger-threshold"):
        assert parents(found, step)["teacher"] == "train/teacher", step
    gate = parents(found, "gate/gate")
    assert (gate["tuning"], gate["tuningValidation"]) == ("resolve/fine-tune-data", "resolve/fine-tune-validation")
    assert parents(found, "gate/cascade")["tuning"] == "resolve/fine-tune-data"
    alone = plan_of("class", {"spec.source.fineTune": TUNE, "spec.source.labels": GONE, "spec.distill": GONE})
    assert parents(alone, "compress/fp32") == {"model": "train/teacher"}
    assert alone.step("train/teacher").key == found.step("train/teacher").key, "made once for the large model and the small"


def test_rows_are_prepared_with_the_encoder_as_it_came() -> None:
    found = plan_of("class", {"spec.source.fineTune": TUNE})
    for step in ("train/augmented", "train/data-report"):
        assert parents(found, step)["teacher"] == "resolve/source"


@pytest.mark.parametrize("field", ["spec.source.uri", "spec.distill.teachers[0].uri"])
def test_an_onnx_model_teaches_nobody(field: str) -> None:
    gone = {"spec.distill": GONE, "spec.edge": GONE}
    edits: dict[str, Any] = {**gone, "spec.source.fineTune": TUNE, "spec.compress": {"precision": "int8"}}
    if "teachers" in field:
        edits = {**PLAIN, "spec.distill.teachers": [{"uri": "models:b"}]}
    model = parse(edited(complete("class"), edits))
    env = environment(model)
    uri = "models:b" if "teachers" in field else "file://teacher"
    pins = {**env.pins, uri: dataclasses.replace(env.pins[uri], info={"format": "onnx"})}
    with pytest.raises(SpecError) as caught:
        build_plan(model, dataclasses.replace(env, pins=pins))
    assert caught.value.problem.field == field


@pytest.mark.parametrize(
    ("edits", "name"),
    [
        ({"spec.distill.teachers": TEACHERS, "spec.distill.stages[0].name": "teacher-1-outputs"}, "teacher-1-outputs"),
        ({"spec.distill.assistants": [ASSISTANT], "spec.distill.stages[0].name": "assistant-1"}, "assistant-1"),
        ({"spec.source.fineTune": TUNE, "spec.distill.stages[0].name": "teacher"}, "teacher"),
    ],
)
def test_stages_do_not_have_these_steps_names(edits: dict[str, Any], name: str) -> None:
    with pytest.raises(SpecError, match="names of their own") as caught:
        plan(edits)
    assert caught.value.problem.found == name


@pytest.mark.parametrize(
    ("step_id", "field", "written"),
    [
        ("resolve/teacher-3", "source.uri", "spec.distill.teachers[2].uri"),
        ("resolve/teacher-3", "source.labels", "spec.distill.teachers[2].labels"),
        ("train/teacher-3-outputs", "teacher.factory.target", "spec.distill.teachers[2].factory.target"),
        ("train/assistant-1", "spec.distill.student.init", "spec.distill.assistants[0].student.init"),
        ("train/assistant-1-soft", "spec.distill.stages[].learningRate", "spec.distill.assistants[0].stages[0].learningRate"),
        ("train/assistant-1-soft", "student.factory", "spec.distill.assistants[0].student.factory"),
        ("train/stage-1", "teacher.factory", "spec.distill.assistants[0].student.factory"),
        ("train/stage-1", "student.factory", "spec.distill.student.factory"),
        ("train/stage-1", "spec.distill.stages[].freeze", "spec.distill.stages[0].freeze"),
        ("train/teacher", "spec.distill.stages[].freeze.layers", "spec.source.fineTune.freeze.layers"),
        ("train/teacher", "data.columns.label", "spec.source.fineTune.data.columns.label"),
        ("train/teacher", "validation.columns.label", "spec.source.fineTune.validation.columns.label"),
    ],
)
def test_fields_are_named_as_they_stand_in_the_file(step_id: str, field: str, written: str) -> None:
    edits = {"spec.distill.assistants": [ASSISTANT], "spec.distill.teachers": TEACHERS, "spec.source.fineTune": TUNE}
    assert as_written(plan(edits).step(step_id), Problem("x", field)).field == written


@pytest.mark.parametrize(("losses", "warned"), [(["hard"], True), (["logits"], False), (["hard", "logits"], False)])
def test_rows_without_labels_that_nobody_learns_from_are_warned_of(losses: list[str], warned: bool) -> None:
    stages = [{"name": kind, "losses": [{"kind": kind}]} for kind in losses]
    edits = {**PLAIN, "spec.distill.unlabelled": {"uri": "data:more"}, "spec.distill.stages": stages}
    model = parse(edited(complete("class"), edits))
    assert any(line.startswith("spec.distill.unlabelled: no loss learns") for line in advice(model)) == warned
    without = parse(edited(complete("class"), {**edits, "spec.distill.unlabelled": GONE}))
    assert not any("unlabelled" in line for line in advice(without))


@pytest.mark.parametrize(
    ("student", "smaller"),
    [
        ({"hiddenLayers": 3, "hiddenSize": 256}, True),
        (SHAPE, False),
        ({"uri": "models:small"}, False),
        ({"hiddenLayers": 2}, True),
    ],
)
def test_an_assistant_smaller_than_its_student_is_warned_of(student: dict[str, Any], smaller: bool) -> None:
    edits = {**PLAIN, "spec.distill.student": student, "spec.distill.assistants": [ASSISTANT]}
    model = parse(edited(complete("class"), edits))
    said = [line for line in advice(model, environment(model)) if "smaller" in line]
    assert bool(said) == smaller
    assert all(line.startswith("spec.distill.assistants[0].student:") for line in said)
