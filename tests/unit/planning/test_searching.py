"""Values of a search that no student of its teacher can have: refused when the file is planned, as far as that is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.support.api_objects import complete, edited
from tests.support.plans import environment, plan_of

from stillhouse.api.load import parse
from stillhouse.entrypoints.local.limits import beyond
from stillhouse.errors import SpecError
from stillhouse.planning.build import build_plan
from stillhouse.planning.shapes import Known, impossible, impossible_shape

STUDENT, SEARCH, STAGES = "spec.distill.student", "spec.distill.search", "spec.distill.stages"
EMBEDDING = [{"losses": [{"kind": "embedding"}]}]
TOKENS = [{"losses": [{"kind": "embedding"}]}, {"losses": [{"kind": "attention-relation"}]}]
"""The source of these plans has 6 layers of 384 and 30,522 tokens."""


def edits(student: dict[str, Any], search: dict[str, Any], stages: Any = EMBEDDING) -> dict[str, Any]:
    return {STUDENT: student, SEARCH: search, STAGES: stages}


@pytest.mark.parametrize(
    ("student", "search", "stages", "field", "found", "allowed", "fix"),
    [
        ({"init": "layers"}, {"hiddenLayers": [8, 2, 12]}, EMBEDDING, "hiddenLayers", "8, 12", "1 to 6", "hiddenLayers: [2], or"),
        ({}, {"hiddenSize": [96], "hiddenLayers": [7]}, EMBEDDING, "hiddenLayers", "7", "1 to 6", "student.init: random"),
        ({}, {"hiddenSize": [96, 512]}, EMBEDDING, "hiddenSize", "512", "at most 384", "hiddenSize: [96], or"),
        ({}, {"hiddenSize": [96, 100]}, EMBEDDING, "hiddenSize", "100", "multiples of 32", "or hiddenSize: [96]"),
        ({"init": "static"}, {"hiddenSize": [64, 100]}, EMBEDDING, "hiddenSize", "100", "multiples of 32", "[64, 96]"),
        ({"hiddenLayers": 2}, {"attentionHeads": [12, 5]}, EMBEDDING, "attentionHeads", "5", "divisors of 384", "[12], or"),
        ({}, {"vocabulary": [8000, 40000]}, TOKENS, "vocabulary", "8000", "30522 or more", "[40000], or"),
    ],
)
def test_what_the_teacher_does_not_allow_is_refused_when_it_is_planned(
    student: dict[str, Any], search: dict[str, Any], stages: Any, field: str, found: str, allowed: str, fix: str
) -> None:
    with pytest.raises(SpecError) as caught:
        plan_of("text", edits(student, search, stages))
    problem = caught.value.problem
    assert (problem.field, problem.found) == (f"{SEARCH}.{field}", found)
    assert allowed in problem.allowed
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("student", "search", "stages"),
    [
        ({"init": "random"}, {"hiddenLayers": [12], "hiddenSize": [512]}, EMBEDDING),
        ({"architecture": "residual"}, {"hiddenLayers": [12], "hiddenSize": [512]}, EMBEDDING),
        ({"architecture": "cnn"}, {"hiddenLayers": [12], "hiddenSize": [500]}, EMBEDDING),
        ({"init": "layers"}, {"hiddenLayers": [1, 6]}, EMBEDDING),
        ({}, {"hiddenSize": [384, 100], "attentionHeads": [4]}, EMBEDDING),
        ({}, {"vocabulary": [30522]}, TOKENS),
        ({}, {"vocabulary": [4000]}, EMBEDDING),
    ],
)
def test_what_it_allows_is_planned(student: dict[str, Any], search: dict[str, Any], stages: Any) -> None:
    assert plan_of("text", edits(student, search, stages)).find("train/search") is not None


def test_of_a_teacher_that_is_not_known_yet_nothing_is_said() -> None:
    model = parse(edited(complete("text"), edits({}, {"hiddenSize": [100, 512], "hiddenLayers": [40]})))
    env = environment(model)
    pins = {uri: dataclasses.replace(pin, info={}) for uri, pin in env.pins.items()}
    assert build_plan(model, dataclasses.replace(env, pins=pins)).find("train/search") is not None


@pytest.mark.parametrize(
    ("student", "field", "found", "allowed", "fix"),
    [
        (
            {"init": "svd", "hiddenLayers": 8},
            "hiddenLayers",
            "8",
            "1 to 6, the teacher's layers",
            "hiddenLayers: 6, or init: random",
        ),
        (
            {"init": "svd", "hiddenSize": 512},
            "hiddenSize",
            "512",
            "at most 384, the teacher's width",
            "hiddenSize: 384, or init: random",
        ),
        ({"init": "svd", "hiddenSize": 100}, "hiddenSize", "100", "multiples of 32", "hiddenSize: 96"),
        (
            {"init": "layers", "hiddenLayers": 2, "attentionHeads": 5},
            "attentionHeads",
            "5",
            "divisors of 384",
            "attentionHeads: 4",
        ),
    ],
)
def test_a_shape_that_no_student_can_have_is_refused_when_it_is_planned(
    student: dict[str, Any], field: str, found: str, allowed: str, fix: str
) -> None:
    """As a search's values are, before a teacher is asked; an assistant's as well."""
    with pytest.raises(SpecError) as caught:
        plan_of("text", {STUDENT: student, STAGES: EMBEDDING})
    problem = caught.value.problem
    assert (problem.field, problem.found, problem.fix) == (f"{STUDENT}.{field}", found, fix)
    assert allowed in problem.allowed
    assistants = [{"student": student, "stages": EMBEDDING}]
    with pytest.raises(SpecError) as caught:
        plan_of("text", {STUDENT: {"architecture": "cnn"}, STAGES: EMBEDDING, "spec.distill.assistants": assistants})
    assert caught.value.problem.field == f"spec.distill.assistants[0].student.{field}"


def test_feed_forward_layers_wider_than_the_teachers_are_refused_where_they_are_made_of_them() -> None:
    known = Known(3, 32, 2, 64, 1000)
    shape = {"init": "svd", "hiddenSize": 16, "attentionHeads": 2, "intermediateSize": 65}
    refused = impossible_shape(shape, known, STUDENT)
    assert refused is not None
    assert (refused.problem.field, refused.problem.found) == (f"{STUDENT}.intermediateSize", "65")
    assert refused.problem.fix == "intermediateSize: 64, or init: random"
    assert impossible_shape({**shape, "intermediateSize": 64}, known, STUDENT) is None
    assert impossible_shape({**shape, "init": "random"}, known, STUDENT) is None


def test_what_stands_beside_a_search_is_held_against_the_teacher_as_well() -> None:
    with pytest.raises(SpecError) as caught:
        plan_of("text", edits({"init": "svd", "hiddenLayers": 8}, {"hiddenSize": [96, 100], "attentionHeads": [4]}))
    assert (caught.value.problem.field, caught.value.problem.found) == (f"{STUDENT}.hiddenLayers", "8")
    assert plan_of("text", edits({"init": "svd", "hiddenSize": 100}, {"attentionHeads": [4, 5]})).find("train/search")


@pytest.mark.parametrize(
    "student",
    [
        {"init": "random", "hiddenLayers": 12, "hiddenSize": 512},
        {"init": "svd", "hiddenLayers": 6, "hiddenSize": 96},
        {"init": "svd", "hiddenSize": 100, "attentionHeads": 4, "intermediateSize": 384},
        {"architecture": "cnn", "hiddenLayers": 12, "hiddenSize": 500},
        {"hiddenLayers": 2, "init": "layers"},
    ],
)
def test_a_shape_that_can_be_is_planned(student: dict[str, Any]) -> None:
    assert plan_of("text", {STUDENT: student, STAGES: EMBEDDING}).find("train/student") is not None


@pytest.mark.parametrize(
    ("student", "space", "known", "field"),
    [
        ({"init": "svd"}, {"hiddenSize": [16, 24]}, Known(3, 32, 2, 64, 1000), "hiddenSize"),
        ({"init": "svd", "intermediateSize": 64}, {"hiddenSize": [16, 24]}, Known(3, 32, 2, 64, 1000), ""),
        ({"architecture": "mlp"}, {"vocabularySize": [256, 400]}, Known(tokens=1000, fewest=300), "vocabulary"),
        ({"architecture": "mlp"}, {"vocabularySize": [300, 400]}, Known(tokens=1000, fewest=300), ""),
    ],
)
def test_what_only_the_imported_teacher_tells(
    student: dict[str, Any], space: dict[str, list[int]], known: Known, field: str
) -> None:
    wrong = impossible(student, space, known, reads_tokens=False)
    assert (wrong.problem.field if wrong else "") == (f"{SEARCH}.{field}" if field else "")


@pytest.mark.parametrize(
    ("search", "share", "told"),
    [
        ({"hiddenSize": [64, 128], "hiddenLayers": [1, 2]}, "40%", ""),
        ({"hiddenSize": [64, 128], "hiddenLayers": [1, 2]}, "80%", "hiddenLayers 1, hiddenSize 64"),
        ({"hiddenSize": [64], "attentionHeads": [8, 2], "hiddenLayers": [2]}, "70%", "attentionHeads 2"),
    ],
)
def test_a_share_that_empties_a_layer_of_some_shape_is_told(search: dict[str, Any], share: str, told: str) -> None:
    stages = [*EMBEDDING, {**EMBEDDING[0], "prune": {"heads": share}}]
    model = parse(edited(complete("text"), edits({}, search, stages)))
    found = list(beyond(model.spec, None, {"hiddenSize": 384, "layers": 6}))
    assert [each.problem.field for each in found] == ([f"{STAGES}[1].prune.heads"] if told else [])
    assert all(told in each.problem.found for each in found)
