"""Thresholds: solved by hand where they can be, and true as often as they say in a world whose truth is known."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.errors import DataError
from stillhouse.passes.evaluate.chain import pareto_path
from stillhouse.passes.evaluate.curve import Rows, tally
from stillhouse.passes.evaluate.intervals import clopper_pearson, most_below
from stillhouse.passes.evaluate.threshold import Aim, solve, verify

NAN = math.nan


def world(rng: np.random.Generator, n: int) -> Rows:
    """Confidence uniform, P(agrees) = 0.8 + 0.2 c: at threshold t the share 0.1 (1 - t)² is answered and disagrees."""
    confidence = rng.random(n)
    return Rows.of_two(confidence, rng.random(n) < 0.8 + 0.2 * confidence)


def perfect(n: int) -> Rows:
    return Rows.of_two(np.linspace(0.01, 1, n), np.ones(n, dtype=bool))


def test_the_target_holds_as_often_as_it_says_though_all_thresholds_were_looked_at() -> None:
    rng = np.random.default_rng(1)
    target, missed, naive, rates = 0.97, 0, 0, []
    for _ in range(400):
        rows = world(rng, 600)
        found = solve(rows, Aim("targetAgreement", target)).point
        missed += 1 - 0.1 * (1 - found.thresholds[0]) ** 2 < target
        rates.append(found.escalation.estimate)
        order = np.sort(rows.confidence[:, 0])
        counts = tally(rows, [(float(t),) for t in order])
        by_estimate = order[np.argmax(counts.disagreeing <= (1 - target) * 600)]
        naive += 1 - 0.1 * (1 - by_estimate) ** 2 < target
    assert missed <= 20, "2.5 % of 400 are 10; more than 20 come once in a thousand"
    assert naive > 150, "held against the estimate, every other threshold is worth less than it says"
    assert np.mean(rates) < 0.75, "and not by sending everything on: 0.45 would do with all rows of the world"


def test_the_budget_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    over = [solve(world(rng, 400), Aim("escalationBudget", 0.3)).point.thresholds[0] > 0.3 for _ in range(400)]
    assert sum(over) <= 20
    assert sum(over) >= 1, "a bound that is never missed is wider than it says"


def test_a_target_by_hand() -> None:
    """The 100 surest of 200 rows agree, then every second one: 4 disagreeing of 200 are 2 %, with an upper end of 5.04 %."""
    agrees = np.concatenate([np.ones(100), np.tile([0, 1], 50)]).astype(bool)
    rows = Rows.of_two(np.linspace(1, 0.005, 200), agrees)
    assert most_below(0.0505, 200) == 4
    found = solve(rows, Aim("targetAgreement", 1 - 0.0505))
    assert found.reachable
    assert found.point.agreement.estimate == 0.98
    assert found.point.legs[0] == 108 / 200, "up to the row before the fifth that disagrees"
    assert found.point.agreement.low >= 1 - 0.0505


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**6), st.floats(0, 1), st.booleans())
def test_solved_thresholds_keep_their_bound_and_no_lower_escalation_does(n: int, seed: int, target: float, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 3, n) / 2 if ties else rng.random(n)
    confidence[rng.random(n) < 0.1] = NAN
    rows = Rows.of_two(confidence, rng.random(n) < 0.8)
    found = solve(rows, Aim("targetAgreement", target))
    assert found.point.agreement.low >= target - 1e-9
    for threshold in np.unique(confidence[~np.isnan(confidence)]):
        if threshold < found.point.thresholds[0]:
            lower = int(tally(rows, [(float(threshold),)]).disagreeing[0])
            assert clopper_pearson(n - lower, n).low < target + 1e-9
    budget = solve(rows, Aim("escalationBudget", target))
    if budget.reachable:
        assert budget.point.escalation.high <= target + 1e-9
    else:
        assert budget.best > target - 1e-9


def test_equal_confidences_are_answered_together_or_not_at_all() -> None:
    agrees = np.ones(300, dtype=bool)
    agrees[:60] = False
    found = solve(Rows.of_two(np.full(300, 0.9), agrees), Aim("targetAgreement", 0.9))
    assert not found.reachable
    assert found.point.thresholds == (math.inf,)
    assert found.best == pytest.approx(clopper_pearson(240, 300).low)


def test_what_few_rows_cannot_show_is_said_with_how_many_could() -> None:
    found = solve(perfect(50), Aim("targetAgreement", 0.99))
    assert not found.reachable
    assert found.rows_needed == 368
    assert found.best == pytest.approx(0.025 ** (1 / 50))
    assert "it takes 368 rows at least, and there are 50" in found.describe()
    assert solve(perfect(368), Aim("targetAgreement", 0.99)).point.legs == (1.0, 0.0)


def test_what_the_stages_cannot_do_is_said_with_the_best_there_is() -> None:
    rows = Rows.of_two(np.linspace(0, 1, 1000), np.zeros(1000, dtype=bool))
    found = solve(rows, Aim("targetAgreement", 0.9999))
    assert "cannot be met" in found.describe()
    bad = solve(rows, Aim("targetAgreement", 0.9))
    assert bad.reachable, "of 1,000 rows, 80 may disagree; the surest 80 do"
    constant = Rows.of_two(np.full(1000, 0.5), np.zeros(1000, dtype=bool))
    assert "not good enough" in solve(constant, Aim("targetAgreement", 0.9)).describe()


def test_a_whole_agreement_is_reached_by_escalating_everything_only() -> None:
    found = solve(perfect(100), Aim("targetAgreement", 1.0))
    assert (found.reachable, found.rows_needed, found.point.agreement.low) == (False, None, 1.0)
    assert "no number of rows shows it" in found.describe()


def test_any_agreement_will_do() -> None:
    assert solve(perfect(10), Aim("targetAgreement", 0.0)).point.legs == (1.0, 0.0)


def test_a_budget_is_spent_up_to_its_bound() -> None:
    rows = perfect(1000)
    found = solve(rows, Aim("escalationBudget", 0.2))
    allowed = most_below(0.2, 1000)
    assert found.point.escalation.estimate == pytest.approx((allowed or 0) / 1000)
    assert found.point.escalation.high <= 0.2
    assert found.describe().startswith("escalationBudget 20.00%: at most")
    everything = solve(rows, Aim("escalationBudget", 1.0))
    assert everything.point.thresholds == (math.inf,)


def test_abstentions_alone_can_break_a_budget() -> None:
    confidence = np.linspace(0, 1, 200)
    confidence[:80] = NAN
    found = solve(Rows.of_two(confidence, np.ones(200, dtype=bool)), Aim("escalationBudget", 0.3))
    assert not found.reachable
    assert found.point.escalation.estimate == 0.4
    assert found.best == pytest.approx(clopper_pearson(80, 200).high)
    assert "as few escalate as can be" in found.describe()


@pytest.mark.parametrize("kind", ["targetAgreement", "escalationBudget"])
@pytest.mark.parametrize("rows", [perfect(1), Rows.of_two(np.array([NAN, NAN]), np.zeros(2, dtype=bool))], ids=["one", "abstain"])
def test_next_to_no_rows_give_an_answer_that_is_json(kind: Any, rows: Rows) -> None:
    found = solve(rows, Aim(kind, 0.9))
    assert not found.reachable
    json.dumps(found.to_json(), allow_nan=False)
    json.dumps(verify(rows, found).to_json(), allow_nan=False)
    assert found.describe()


@pytest.mark.parametrize("value", [-0.1, 1.1, NAN])
def test_an_aim_is_a_share(value: float) -> None:
    with pytest.raises(DataError):
        Aim("targetAgreement", value)


# on test ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "agreeing", "verdict"), [(4000, 0.99, "met"), (4000, 0.9, "not met"), (100, 0.97, "not resolved")])
def test_a_solved_point_is_verified_on_other_rows(n: int, agreeing: float, verdict: str) -> None:
    solved = solve(perfect(1000), Aim("targetAgreement", 0.96))
    rows = Rows.of_two(np.linspace(0.01, 1, n), np.arange(n) < agreeing * n)
    found = verify(rows, solved)
    assert found.verdict == verdict
    assert found.point.thresholds == solved.point.thresholds


def test_a_budget_is_verified_too() -> None:
    solved = solve(perfect(1000), Aim("escalationBudget", 0.2))
    assert verify(perfect(3000), solved).verdict == "met"
    assert verify(perfect(60), solved).verdict == "not resolved"
    shifted = Rows.of_two(np.linspace(0.01, 0.5, 500), np.ones(500, dtype=bool))
    assert verify(shifted, solved).verdict == "not met"


# chains -----------------------------------------------------------------------------------------------------------------


def chain_world(rng: np.random.Generator, n: int, second: float = 0.2) -> Rows:
    """The harder a row, the less sure both stages are; where it is hardest, the second one disagrees in `second` of the rows."""
    hard = rng.random(n)
    sure = np.stack([1 - hard, 1 - 0.6 * hard], axis=1) + rng.normal(scale=0.1, size=(n, 2))
    return Rows(sure, np.stack([rng.random(n) > 0.5 * hard**2, rng.random(n) > second * hard**3], axis=1), (1.0, 4.0, 20.0))


def test_a_path_starts_safe_gets_cheaper_and_ends_with_the_first_stage() -> None:
    rows = chain_world(np.random.default_rng(3), 500)
    path = pareto_path(rows, steps=20)
    counts = tally(rows, path)
    assert path[0] == (math.inf, math.inf)
    assert (np.diff(counts.cost) < 0).all()
    assert (np.diff(counts.disagreeing) >= 0).all()
    assert counts.cost[-1] == 1.0


def test_no_thresholds_of_the_grid_beat_a_path() -> None:
    rows = chain_world(np.random.default_rng(9), 300)
    counts = tally(rows, pareto_path(rows, steps=8))
    levels = [[math.inf, *np.quantile(rows.confidence[:, s], np.linspace(0, 1, 8), method="lower")] for s in (0, 1)]
    for first in levels[0]:
        for second in levels[1]:
            other = tally(rows, [(first, second)])
            allowed = counts.disagreeing <= other.disagreeing[0]
            assert counts.cost[allowed].min() <= other.cost[0] + 1e-12


def test_many_stages_stay_bounded() -> None:
    rng = np.random.default_rng(10)
    rows = Rows(rng.random((50, 5)), rng.random((50, 5)) < 0.9, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    assert 1 < len(pareto_path(rows)) <= 4096


def test_a_chain_of_one_stage_is_solved_as_two_models_are_but_for_its_steps() -> None:
    rng = np.random.default_rng(4)
    plan, rows = world(rng, 1000), world(rng, 1000)
    aim = Aim("targetAgreement", 0.97)
    fine, coarse = solve(rows, aim), solve(rows, aim, pareto_path(plan, steps=100))
    assert fine.point.escalation.estimate <= coarse.point.escalation.estimate <= fine.point.escalation.estimate + 0.06


def test_a_chains_target_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    path = pareto_path(chain_world(rng, 600), steps=25)
    truth = chain_world(rng, 40_000)
    real = dict(zip(path, 1 - tally(truth, path).disagreeing / truth.n, strict=True))
    aim = Aim("targetAgreement", 0.95)
    found = [solve(chain_world(rng, 400), aim, path).point for _ in range(200)]
    assert sum(real[point.thresholds] < aim.value - 0.002 for point in found) <= 12  # 5 in the mean; the truth has its own noise
    assert np.mean([point.cost for point in found]) < 0.7 * 20, "cheaper than asking the last model about everything"


def test_a_second_stage_pays() -> None:
    rng = np.random.default_rng(6)
    plan, rows = (chain_world(rng, 3000, second=0.05) for _ in range(2))
    aim = Aim("targetAgreement", 0.97)
    both = solve(rows, aim, pareto_path(plan)).point

    def alone(stage: int, each: Rows) -> Rows:
        return Rows(each.confidence[:, [stage]], each.agrees[:, [stage]], (each.costs[stage], each.costs[-1]))

    for stage in (0, 1):
        assert both.cost < solve(alone(stage, rows), aim, pareto_path(alone(stage, plan))).point.cost
    assert all(share > 0.05 for share in both.legs[:2])


def test_a_stage_that_always_abstains_is_passed_over() -> None:
    rows = chain_world(np.random.default_rng(7), 300)
    mute = Rows(np.stack([np.full(300, NAN), rows.confidence[:, 1]], axis=1), rows.agrees, rows.costs)
    found = solve(mute, Aim("targetAgreement", 0.9), pareto_path(mute, steps=10))
    assert found.point.legs[0] == 0.0
    assert found.reachable


def test_a_chains_budget_is_kept() -> None:
    rng = np.random.default_rng(8)
    path, rows = pareto_path(chain_world(rng, 500)), chain_world(rng, 500)
    found = solve(rows, Aim("escalationBudget", 0.25), path)
    assert found.reachable
    assert found.point.escalation.high <= 0.25
