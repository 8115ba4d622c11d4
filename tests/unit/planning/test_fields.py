"""Fields that a step names relative to what it reads, as they stand in the resource."""

from __future__ import annotations

import pytest
from tests.support.plans import plan_of

from stillhouse.errors import Problem
from stillhouse.planning.fields import as_written
from stillhouse.planning.plan import Environment, Step, StepDraft, seal


def step(step_id: str, **parents: str) -> Step:
    return Step(step_id, "resolve", "import-data", 1, {}, parents, "key")


@pytest.mark.parametrize(
    ("at", "field", "written"),
    [
        (step("resolve/source"), "source.uri: config.json: model_type", "spec.source.uri: config.json: model_type"),
        (step("resolve/source"), "source.labels", "spec.source.labels"),
        (step("train/student"), "source.uri", "spec.distill.student.uri"),
        (step("train/student"), "source.maxLength", "spec.source.maxLength"),
        (step("resolve/data"), "data.columns.label", "spec.distill.data.columns.label"),
        (step("resolve/validation"), "data.uri", "spec.distill.validation.uri"),
        (step("resolve/unlabelled"), "data.uri", "spec.distill.unlabelled.uri"),
        (step("train/a", data="train/augmented"), "data.columns.label", "spec.distill.data.columns.label"),
        (step("resolve/calibration"), "data.columns", "spec.compress.calibration.columns"),
        (step("resolve/gate-data"), "data.uri", "spec.gate.data.uri"),
        (step("resolve/index-data"), "data.uri", "spec.index.data.uri"),
        (step("gate/index", model="gate/gate", data="resolve/index-data"), "data.columns.text", "spec.index.data.columns.text"),
        (step("compress/sensitivity", data="resolve/data"), "data.columns.image", "spec.distill.data.columns.image"),
        (step("train/a", validation="resolve/validation"), "validation.columns.text", "spec.distill.validation.columns.text"),
        (step("train/a", validation="resolve/validation"), "spec.distill.validation.columns", "spec.distill.validation.columns"),
        (step("resolve/source"), "source.factory.target", "spec.source.factory.target"),
        (step("train/a", teacher="resolve/source", student="train/student"), "teacher.factory", "spec.source.factory"),
        (step("train/a", teacher="resolve/source", student="train/student"), "student.factory", "spec.distill.student.factory"),
        (step("compress/fp32", model="resolve/source"), "model.factory.target", "spec.source.factory.target"),
        (step("compress/fp32", model="train/a"), "model.factory.target", "spec.distill.student.factory.target"),
        (step("train/qat", calibration="resolve/calibration"), "calibration.uri", "spec.compress.calibration.uri"),
        (step("train/qat", calibration="resolve/data"), "calibration.columns.text", "spec.distill.data.columns.text"),
        (step("gate/gate"), "spec.gate.data.columns", "spec.gate.data.columns"),
        (step("train/a"), "data.parquet", "data.parquet"),
        (step("train/a"), "", ""),
    ],
)
def test_a_field_is_named_as_it_stands_in_the_file(at: Step, field: str, written: str) -> None:
    assert as_written(at, Problem("x", field)).field == written


def test_fields_within_what_is_allowed_and_the_fix_are_named_in_full_and_what_was_found_is_left() -> None:
    found = as_written(
        step("train/student"),
        Problem("x", "source.uri", "source.uri", "source.labels, or id2label in config.json", "point source.uri at it."),
    )
    assert found.found == "source.uri"
    assert found.allowed == "spec.source.labels, or id2label in config.json"
    assert found.fix == "point spec.distill.student.uri at it."


def test_every_import_of_data_knows_its_field() -> None:
    plan = plan_of("text")
    fields = {each.id: as_written(each, Problem("x", "data.uri")).field for each in plan.steps if each.pass_name == "import-data"}
    assert len(fields) > 3
    assert len(set(fields.values())) == len(fields)
    assert all(field.startswith("spec.") for field in fields.values()), fields


SOFT = {"losses": [{"kind": "logits"}, {"kind": "hidden", "layer": 2}]}
HARD = {"losses": [{"kind": "hard", "classWeights": {"balanced": True}}]}
THREE = {
    "spec.distill.stages": [
        SOFT,
        {**HARD, "name": "middle"},
        {"losses": [{"kind": "hidden"}, *HARD["losses"], {"kind": "hidden"}]},
    ],
    "spec.distill.assistants": [{"student": {"hiddenLayers": 3}, "stages": [HARD, SOFT]}],
}
ASSISTANT = "spec.distill.assistants[0]"


@pytest.mark.parametrize(
    ("step_id", "field", "written"),
    [
        ("train/stage-1", "learningRate", "spec.distill.stages[0].learningRate"),
        ("train/middle", "freeze.layers", "spec.distill.stages[1].freeze.layers"),
        ("train/stage-3", "losses", "spec.distill.stages[2].losses"),
        ("train/stage-1", "losses[].layer", "spec.distill.stages[0].losses[1].layer"),
        ("train/stage-3", "losses[].layers", "spec.distill.stages[2].losses[0 or 2].layers"),
        ("train/middle", "losses[].classWeights.byLabel", "spec.distill.stages[1].losses[0].classWeights.byLabel"),
        ("train/middle", "losses[].layer", "spec.distill.stages[1].losses[].layer"),
        ("train/assistant-1-stage-1", "prune.heads", f"{ASSISTANT}.stages[0].prune.heads"),
        ("train/assistant-1-stage-2", "losses[].layer", f"{ASSISTANT}.stages[1].losses[1].layer"),
        ("train/teacher-outputs", "losses[].layer", f"{ASSISTANT}.stages[1].losses[1].layer"),
        ("train/assistant-1-outputs", "losses[].layer", "spec.distill.stages[0 or 2].losses[].layer"),
    ],
)
def test_the_stage_that_an_error_is_about_is_told_by_its_number(step_id: str, field: str, written: str) -> None:
    found = as_written(plan_of("class", THREE).step(step_id), Problem("x", f"spec.distill.stages[].{field}"))
    assert found.field == written


def test_a_search_trains_by_the_first_stage() -> None:
    edits = {**THREE, "spec.distill.student": {}, "spec.distill.search": {"hiddenLayers": [1, 2]}}
    edits["spec.distill.validation"] = {"uri": "data:v"}
    problem = Problem("x", "spec.distill.stages[].learningRate", fix="lower spec.distill.stages[].learningRate")
    found = as_written(plan_of("class", edits).step("train/search"), problem)
    assert (found.field, found.fix) == ("spec.distill.stages[0].learningRate", "lower spec.distill.stages[0].learningRate")


def test_training_with_rounded_numbers_has_a_rate_of_its_own_and_all_else_of_the_last_stage() -> None:
    qat = {"spec.compress": {"precision": "int8", "qat": {}}}
    step = plan_of("class", {**THREE, **qat}).step("train/qat")
    for field, written in (
        ("learningRate", "spec.compress.qat.learningRate"),
        ("freeze.layers", "spec.distill.stages[2].freeze.layers"),
    ):
        assert as_written(step, Problem("x", f"spec.distill.stages[].{field}")).field == written


def test_where_a_step_stands_is_no_part_of_its_key() -> None:
    drafts = [StepDraft("train/a", "train", "distill", {"epochs": 1}, places=places) for places in ({}, {"a": "b"})]
    plain, placed = (seal([each], Environment(pins={}))[0] for each in drafts)
    assert plain.key == placed.key
    assert plain.places != placed.places
