"""The verdict on every object of the shared table, which the API server is asked about as well."""

from __future__ import annotations

import pytest
from tests.support.api_objects import CASES, RESERVED, Case, complete, edited

from stillhouse.api.load import parse
from stillhouse.api.model import DistilledModel
from stillhouse.errors import NotAvailable, SpecError


@pytest.mark.parametrize("case", [case for case in CASES if case.field is None], ids=lambda case: case.name)
def test_valid_objects_are_accepted(case: Case) -> None:
    assert isinstance(parse(case.object), DistilledModel)


@pytest.mark.parametrize("case", [case for case in CASES if case.field is not None], ids=lambda case: case.name)
def test_invalid_objects_are_refused_and_the_field_is_named(case: Case) -> None:
    with pytest.raises(SpecError) as refused:
        parse(case.object)

    problems = refused.value.problems
    named = [problem for problem in problems if problem.field.startswith(str(case.field))]
    assert named, problems
    assert any(case.says in problem.message for problem in named), named


@pytest.mark.parametrize("path", RESERVED)
def test_a_reserved_name_alone_is_not_available(path: str) -> None:
    with pytest.raises(NotAvailable) as refused:
        parse(edited(complete("text"), {path: RESERVED[path]}))

    assert [problem.field for problem in refused.value.problems] == [path]
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(("base", "fix"), [("class", "bilstm or mlp"), ("image", "write cnn or mlp")])
def test_who_cannot_have_a_residual_student_is_told_what_the_task_can_have(base: str, fix: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(edited(complete(base), {"spec.distill.student": {"architecture": "residual", "hiddenLayers": 1, "hiddenSize": 64}}))
    assert any(fix in problem.fix for problem in refused.value.problems), refused.value.problems


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(SpecError) as refused:
        parse(edited(complete("text"), {"spec.packing": {}, "spec.gate.maxSize": "12MB", "spec.distill.seed": "7"}))

    assert {problem.field for problem in refused.value.problems} == {"spec.packing", "spec.gate.maxSize", "spec.distill.seed"}
    assert not isinstance(refused.value, NotAvailable)  # not everything that is wrong will be right one day


def test_every_reserved_name_of_the_models_is_tried() -> None:
    from stillhouse.api.model import Spec
    from stillhouse.api.schema import reserved_names, structural

    assert {path for path, _ in reserved_names(structural(Spec, "spec"), "spec")} == set(RESERVED)
