"""What is done to rows before a student learns from them, in which order, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.plans import keys, plan_of

from stillhouse.errors import SpecError
from stillhouse.planning.preparing import copied


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
