"""Which operator gets which precision: by hand, and held against every choice there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import pytest

from stillhouse.passes.compress.assigning import Level, Move, assign, moves
from stillhouse.passes.compress.lowering import Precision


def levels(full: int, int8: float, int4: float) -> list[Level]:
    return [Level("fp32", full, 0.0), Level("int8", full // 4, int8), Level("int4", full // 6, int4)]


MODEL = {
    "table": levels(24_000, 0.0001, 0.002),
    "gentle": levels(2_400, 0.0005, 0.0006),
    "harsh": levels(2_400, 0.001, 0.08),
    "tiny": levels(120, 0.004, 0.01),
}


def total(choice: Mapping[str, Precision]) -> float:
    return sum(next(each.damage for each in MODEL[name] if each.precision == precision) for name, precision in choice.items())


def size(choice: Mapping[str, Precision], among: Mapping[str, Sequence[Level]]) -> int:
    return sum(next(each.bytes for each in among[name] if each.precision == choice.get(name, "fp32")) for name in among)


def test_steps_go_down_by_the_damage_of_a_saved_byte() -> None:
    steps = moves(MODEL)
    assert steps[0] == Move("table", "int8", 18_000, 0.0001)
    rates = [step.adds / step.saves for step in steps]
    assert rates == sorted(rates)
    of_gentle = [step.precision for step in steps if step.operator == "gentle"]
    assert of_gentle == ["int8", "int4"]


def test_a_level_that_loses_more_and_is_larger_is_no_step() -> None:
    worse = {"x": [Level("fp32", 100, 0.0), Level("int8", 25, 0.5), Level("int4", 15, 0.1)]}
    assert moves(worse) == [Move("x", "int4", 85, 0.1)]
    broken = {"x": [Level("fp32", 100, 0.0), Level("int8", 25, 0.1), Level("int4", 15, math.inf)]}
    assert moves(broken) == [Move("x", "int8", 75, 0.1)]


@pytest.mark.parametrize("budget", [0.0002, 0.001, 0.003, 0.005, 0.02, 0.2])
def test_what_is_chosen_is_within_the_loss_and_near_the_best_there_is(budget: float) -> None:
    found = assign(moves(MODEL), budget, total)
    assert found.loss == pytest.approx(total(found.choice))
    assert found.loss <= budget
    precisions: tuple[Precision, ...] = ("fp32", "int8", "int4")
    every = (dict(zip(MODEL, each, strict=True)) for each in itertools.product(precisions, repeat=len(MODEL)))
    best = min(size(each, MODEL) for each in every if total(each) <= budget)
    assert size(found.choice, MODEL) <= 1.1 * best
    assert found.measured <= 12


def test_losses_that_do_not_add_up_are_measured() -> None:
    """Together the operators lose three times what they lose alone: no sum may be believed."""
    found = assign(moves(MODEL), 0.003, lambda choice: 3 * total(choice))
    assert 3 * total(found.choice) <= 0.003
    assert found.choice["table"] == "int8"


def test_a_loss_that_nothing_meets_is_told_with_the_nearest() -> None:
    found = assign(moves(MODEL), 0.00001, total)
    assert (found.choice, found.loss, found.first) == ({}, 0.0, 0.0001)
