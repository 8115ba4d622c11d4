"""The curve of a cascade: counted by hand, and its area against escalation by lot."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.errors import DataError
from stillhouse.passes.evaluate.curve import Curve, Rows, as_right, measure, tally, trace
from stillhouse.passes.evaluate.reliability import auroc

NAN = math.nan


def small(confidence: list[float], agrees: list[int]) -> Rows:
    return Rows.of_two(np.array(confidence), np.array(agrees, dtype=bool), costs=(0.1, 1.0))


def test_a_trace_by_hand() -> None:
    rows = small([0.9, 0.7, 0.7, 0.2, NAN], [1, 1, 0, 0, 0])
    path = trace(rows)
    assert path == [(math.inf,), (0.9,), (0.7,), (0.2,)]
    counts = tally(rows, path)
    assert counts.escalated.tolist() == [5, 4, 2, 1], "the row that abstains always goes on"
    assert counts.disagreeing.tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(counts.cost, [1.0, 0.9, 0.5, 0.3])


def test_accuracy_is_of_whoever_answers() -> None:
    right = (np.array([1, 0, 1], dtype=bool), np.array([1, 1, 0], dtype=bool))
    rows = Rows.of_two(np.array([0.9, 0.5, 0.1]), np.array([1, 0, 0], dtype=bool), right=right)
    found = tally(rows, trace(rows)).right
    assert found is not None
    assert found.tolist() == [2, 2, 1, 2], "a small model may be right where the larger one is not"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([NAN, 0.0, 0.2, 0.5, 0.5001, 1.0]), *[st.booleans()] * 3), min_size=1, max_size=30),
    st.sampled_from([math.inf, 1.0, 0.5, 0.3, 0.0, -math.inf]),
)
def test_the_fast_count_of_two_models_is_the_plain_one(rows: list[tuple[float, bool, bool, bool]], threshold: float) -> None:
    confidence, agrees, mine, theirs = (np.array(column) for column in zip(*rows, strict=True))
    two = Rows.of_two(confidence, agrees, costs=(0.25, 2.0), right=(mine, theirs))
    found = tally(two, [(threshold,)])
    answered = confidence >= threshold
    assert found.escalated[0] == (~answered).sum()
    assert found.disagreeing[0] == (answered & ~agrees).sum()
    assert found.right is not None
    assert found.right[0] == np.where(answered, mine, theirs).sum()
    assert found.cost[0] == pytest.approx(0.25 * (threshold != math.inf) + 2.0 * (~answered).mean())


def test_as_right_is_right_or_nobody_is() -> None:
    """The agreement is then 1 less what accuracy is lost where it is lost, so no cascade loses more accuracy than it misses."""
    mine, theirs = np.array([1, 1, 0, 0], dtype=bool), np.array([1, 0, 1, 0], dtype=bool)
    agrees = as_right(mine, theirs)
    assert agrees.tolist() == [True, True, False, True]
    found = measure(Rows.of_two(np.ones(4), agrees, right=(mine, theirs)), (0.5,))
    assert found.loss is not None
    assert found.loss.estimate <= 1 - found.agreement.estimate


def test_a_chain_by_hand() -> None:
    """Each row is answered by the first stage that is sure enough, and pays for those that were asked before."""
    rows = Rows(
        np.array([[0.9, 0.9], [0.1, 0.8], [0.1, 0.1], [NAN, 0.9]]),
        np.array([[0, 1], [1, 0], [1, 1], [0, 1]], dtype=bool),
        (1.0, 3.0, 10.0),
    )
    assert rows.legs((0.5, 0.5)).tolist() == [0, 1, 2, 1]
    counts = tally(rows, [(0.5, 0.5), (math.inf, 0.5), (math.inf, math.inf)])
    assert counts.escalated.tolist() == [1, 1, 4]
    assert counts.disagreeing.tolist() == [2, 1, 0]
    np.testing.assert_allclose(counts.cost, [(1 + 4 + 14 + 4) / 4, (3 + 3 + 13 + 3) / 4, 10])
    assert measure(rows, (0.5, 0.5)).legs == (0.25, 0.5, 0.25)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 80), st.integers(0, 10**6), st.booleans())
def test_the_gain_is_twice_the_auroc_less_one(n: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 4, n) / 4 if ties else rng.random(n)
    confidence[rng.random(n) < 0.1] = NAN
    agrees = rng.random(n) < 0.7
    rows = Rows.of_two(confidence, agrees)
    gain = Curve.of(rows, trace(rows)).areas["agreement"].gain
    wanted = 2 * auroc(confidence, agrees) - 1
    if math.isnan(wanted):
        assert gain is None
    else:
        assert gain == pytest.approx(wanted, abs=1e-9)


def test_the_best_order_gains_everything_and_lot_nothing() -> None:
    agrees = np.arange(100) < 80
    best = Rows.of_two(np.where(agrees, 0.9, 0.1) + np.arange(100) * 1e-5, agrees)
    assert Curve.of(best, trace(best)).areas["agreement"].gain == pytest.approx(1.0)
    lot = Rows.of_two(np.full(100, 0.5), agrees)
    found = Curve.of(lot, trace(lot)).areas["agreement"]
    assert (found.gain, found.area) == (pytest.approx(0.0), pytest.approx(0.9))


def test_the_area_of_accuracy_lies_beside_that_of_lot() -> None:
    right = (np.array([1, 1, 0, 0], dtype=bool), np.ones(4, dtype=bool))
    rows = Rows.of_two(np.array([0.9, 0.8, 0.2, 0.1]), right[0], right=right)
    found = Curve.of(rows, trace(rows)).areas["accuracy"]
    assert found.random == 0.75
    assert found.area == pytest.approx(0.5 + 0.5 * 0.75)
    assert found.gain is None, "the best order for accuracy depends on both models"


@pytest.mark.parametrize("agree", [0, 1])
@pytest.mark.parametrize("n", [1, 40])
@pytest.mark.parametrize("confidence", [0.5, NAN])
def test_curves_of_one_kind_of_row_are_json(agree: int, n: int, confidence: float) -> None:
    rows = small([confidence] * n, [agree] * n)
    data = json.loads(json.dumps(Curve.of(rows, trace(rows)).to_json(), allow_nan=False))
    assert data["points"][0] == {
        "thresholds": [None], "escalation": 1.0, "agreement": 1.0, "agreementLow": 1.0, "accuracy": None, "cost": 1.0
    }  # fmt: skip
    assert data["areas"]["agreement"]["gain"] is None
    assert len(data["points"]) == (1 if math.isnan(confidence) else 2)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    rng = np.random.default_rng(1)
    rows = Rows.of_two(rng.random(3000), rng.random(3000) < 0.9)
    curve = Curve.of(rows, trace(rows))
    assert len(curve.points) == 101
    assert (curve.points[0][1], curve.points[-1][1]) == (1.0, 0.0)
    assert all(low <= agreement for _, _, agreement, low, _, _ in curve.points)


def test_a_point_has_exact_intervals_and_a_paired_loss() -> None:
    rng = np.random.default_rng(2)
    n = 400
    large = rng.random(n) < 0.9
    rows = Rows.of_two(np.linspace(0, 1, n), np.ones(n, dtype=bool), right=(large, large))
    found = measure(rows, (0.5,))
    assert found.agreement.low == pytest.approx(0.025 ** (1 / n))
    assert found.escalation.estimate == 0.5
    assert found.loss is not None
    assert (found.loss.estimate, found.loss.low < 0 < found.loss.high) == (0.0, True)
    assert found.accuracy is not None
    assert found.accuracy.estimate == large.mean()


def test_where_everything_escalates_nothing_is_left_to_chance() -> None:
    found = measure(small([0.9, 0.1], [0, 0]), (math.inf,))
    assert (found.agreement.low, found.escalation.low, found.legs) == (1.0, 1.0, (0.0, 1.0))
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("costs", [(1.0,), (1.0, NAN), (-1.0, 1.0), (1.0, math.inf)])
def test_costs_are_numbers_one_a_model(costs: tuple[float, ...]) -> None:
    with pytest.raises(DataError):
        Rows(np.ones((2, 1)), np.ones((2, 1), dtype=bool), costs)


def test_rows_must_fit_each_other() -> None:
    with pytest.raises(DataError):
        Rows(np.ones((0, 1)), np.ones((0, 1), dtype=bool), (0.0, 1.0))
    with pytest.raises(DataError):
        Rows(np.ones((2, 1)), np.ones((3, 1), dtype=bool), (0.0, 1.0))
    with pytest.raises(DataError):
        Rows(np.ones((2, 1)), np.ones((2, 1), dtype=bool), (0.0, 1.0), np.ones((2, 1), dtype=bool))
