"""Confidences: what they are by hand, that nothing broken ever looks sure, and that they survive JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import DataError, SourceError
from stillhouse.inference.confidence import Calibration, answers, log_odds, margin, nearest, peak, top_score, vote
from stillhouse.inference.postprocess import softmax

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5], [-3.0, 4.0, 4.0]])
EVERY = [
    Calibration("identity"),
    Calibration("temperature", temperature=1.7),
    Calibration("platt", slope=0.8, intercept=-0.3),
    Calibration("isotonic", x=(-1.0, 0.5, 3.0), y=(0.2, 0.2, 0.9)),
    Calibration("identity", "top", neighbours=5),
    Calibration("platt", "margin", slope=12.0, intercept=-1.0, neighbours=5),
    Calibration("isotonic", "vote", x=(0.2, 1.0), y=(0.1, 0.99), neighbours=5),
]
OF_LOGITS = EVERY[:4]


def test_identity_is_the_softmax_of_the_chosen_label() -> None:
    found = Calibration("identity").of_logits(LOGITS)
    np.testing.assert_allclose(found, softmax(LOGITS.astype(np.float32)).max(axis=1), rtol=1e-6)
    assert found.dtype == np.float64


def test_a_temperature_divides_the_logits() -> None:
    found = Calibration("temperature", temperature=2.0).of_logits(LOGITS)
    np.testing.assert_allclose(found, Calibration("identity").of_logits(LOGITS / 2))
    assert (found[[0]] < Calibration("identity").of_logits(LOGITS)[[0]]).all()


def test_logarithms_of_probabilities_do_as_well_as_logits() -> None:
    """Triton answers with probabilities; they differ from logits by a constant of each row."""
    logs = np.log(softmax(LOGITS.astype(np.float32)))
    for calibration in OF_LOGITS:
        np.testing.assert_allclose(calibration.of_logits(logs), calibration.of_logits(LOGITS), rtol=1e-5)


def test_log_odds_by_hand_and_where_the_softmax_is_one() -> None:
    p = softmax(LOGITS.astype(np.float32)).max(axis=1).astype(np.float64)
    np.testing.assert_allclose(log_odds(LOGITS), np.log(p / (1 - p)), rtol=1e-4, atol=1e-6)
    far = np.array([[500.0, 0.0, 0.0], [900.0, 0.0, 0.0]])
    np.testing.assert_allclose(log_odds(far), [500 - math.log(2), 900 - math.log(2)])
    assert Calibration("identity").of_logits(far).tolist() == [1.0, 1.0], "as a probability the two cannot be told apart"


def test_isotonic_is_linear_between_its_knots_and_constant_outside() -> None:
    calibration = Calibration("isotonic", "top", x=(0.2, 0.4, 0.8), y=(0.1, 0.5, 0.9), neighbours=3)
    found = calibration.of_signal(np.array([-1.0, 0.2, 0.3, 0.4, 0.6, 0.8, 5.0]))
    np.testing.assert_allclose(found, [0.1, 0.1, 0.3, 0.5, 0.7, 0.9, 0.9])


def test_platt_is_the_logistic_function_without_overflow() -> None:
    calibration = Calibration("platt", "margin", slope=2.0, intercept=-1.0, neighbours=2)
    np.testing.assert_allclose(calibration.of_signal(np.array([0.5, 1.0])), [0.5, 1 / (1 + math.exp(-1))])
    assert calibration.of_signal(np.array([-1e300, 1e300])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("calibration", OF_LOGITS, ids=lambda each: each.kind)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_abstains(calibration: Calibration, bad: float) -> None:
    logits = LOGITS.copy()
    logits[1, 2] = bad
    found = calibration.of_logits(logits)
    assert np.isnan(found).tolist() == [False, True, False]
    np.testing.assert_array_equal(found[[0, 2]], calibration.of_logits(LOGITS)[[0, 2]])
    assert answers(found, 0.0).tolist() == [True, False, True]


@pytest.mark.parametrize("calibration", EVERY[4:], ids=lambda each: each.signal)
def test_signals_that_are_not_numbers_abstain(calibration: Calibration) -> None:
    found = calibration.of_signal(np.array([math.nan, math.inf, -math.inf, 0.5]))
    assert np.isnan(found).tolist() == [True, True, True, False]


def test_nothing_answers_at_an_infinite_threshold() -> None:
    assert not answers(np.array([0.0, 1.0, math.nan]), math.inf).any()


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=8))
def test_a_confidence_is_a_probability_whatever_the_logits(rows: list[list[float]]) -> None:
    for calibration in OF_LOGITS:
        found = calibration.of_logits(np.array(rows))
        assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("calibration", EVERY, ids=lambda each: f"{each.kind}-{each.signal}")
def test_json_there_and_back(calibration: Calibration) -> None:
    data = json.loads(json.dumps(calibration.to_json(), allow_nan=False))
    back = Calibration.from_json(data)
    assert back == calibration
    assert back.digest == calibration.digest
    assert calibration.digest.startswith("sha256:")


def test_another_temperature_has_another_digest() -> None:
    assert len({calibration.digest for calibration in EVERY}) == len(EVERY)


GOOD = {"version": 1, "kind": "temperature", "signal": "logits", "parameters": {"temperature": 2.0}}
BROKEN: list[Any] = [
    None,
    {},
    {**GOOD, "version": 2},
    {**GOOD, "kind": "magic"},
    {**GOOD, "signal": "moon"},
    {**GOOD, "parameters": {"temperature": 0.0}},
    {**GOOD, "parameters": {"temperature": math.nan}},
    {**GOOD, "parameters": {"warmth": 1.0}},
    {**GOOD, "parameters": None},
    {**GOOD, "kind": "isotonic", "parameters": {"x": [], "y": []}},
    {**GOOD, "kind": "isotonic", "parameters": {"x": [0, 0], "y": [0.1, 0.2]}},
    {**GOOD, "kind": "isotonic", "parameters": {"x": [0, 1], "y": [0.3, 0.2]}},
    {**GOOD, "kind": "isotonic", "parameters": {"x": [0, 1], "y": [0.3, 1.2]}},
    {**GOOD, "kind": "isotonic", "parameters": {"x": [0, math.nan], "y": [0.1, 0.2]}},
    {**GOOD, "kind": "isotonic", "parameters": {"x": [0], "y": ["much"]}},
    {**GOOD, "kind": "platt", "parameters": {"slope": -1.0, "intercept": 0.0}},
    {**GOOD, "kind": "platt", "signal": "top", "parameters": {"slope": 1.0, "intercept": 0.0}},
]


@pytest.mark.parametrize("data", BROKEN, ids=[str(place) for place in range(len(BROKEN))])
def test_what_is_no_calibration_is_a_users_error(data: Any) -> None:
    with pytest.raises(SourceError, match="calibration"):
        Calibration.from_json(data)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (2, 0)])
def test_a_confidence_needs_two_labels(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="two labels"):
        Calibration("identity").of_logits(np.zeros(shape))


def test_a_calibration_is_for_its_signal() -> None:
    with pytest.raises(DataError):
        Calibration("identity").of_signal(np.zeros(2))
    with pytest.raises(DataError):
        Calibration("identity", "top", neighbours=1).of_logits(LOGITS)


def test_no_rows_have_no_confidences() -> None:
    for calibration in OF_LOGITS:
        assert calibration.of_logits(np.zeros((0, 3))).shape == (0,)


# neighbours -------------------------------------------------------------------------------------------------------------

INDEX = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0], [0.8, 0.6]], dtype=np.float32)


def test_the_nearest_rows_fall_and_equals_keep_their_order() -> None:
    found = nearest(np.array([[1, 0], [0, 1]], dtype=np.float32), INDEX, 3)
    assert found.rows.tolist() == [[0, 1, 4], [2, 1, 4]]
    np.testing.assert_allclose(found.scores, [[1, 0.8, 0.8], [1, 0.6, 0.6]])


def test_the_nearest_rows_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(3)
    index, queries = rng.normal(size=(60, 5)), rng.normal(size=(20, 5))
    found = nearest(queries, index, 7)
    np.testing.assert_array_equal(found.rows, np.argsort(-(queries @ index.T), axis=1)[:, :7])


def test_more_neighbours_than_rows_are_all_rows() -> None:
    assert nearest(INDEX[:1], INDEX, 99).rows.shape == (1, 5)


def test_signals_by_hand() -> None:
    found = nearest(np.array([[1, 0]], dtype=np.float32), INDEX, 4)  # rows 0, 1, 4 and 2, scores 1, .8, .8, 0
    labels = np.array([7, 7, 8, 8, 7])
    np.testing.assert_allclose(top_score(found), [1.0])
    np.testing.assert_allclose(margin(found), [0.2], atol=1e-7)
    np.testing.assert_allclose(margin(found, labels), [1.0], atol=1e-7)
    winner, share = vote(found, labels)
    assert (winner.tolist(), share.tolist()) == ([7], [0.75])
    np.testing.assert_allclose(peak(found), [1 / (1 + 2 * math.exp(-4) + math.exp(-20))], rtol=1e-6)


def test_a_drawn_vote_goes_to_the_nearer_row() -> None:
    found = nearest(np.array([[1, 0]], dtype=np.float32), INDEX, 4)
    winner, share = vote(found, np.array([5, 3, 5, 0, 3]))
    assert (winner.tolist(), share.tolist()) == ([5], [0.5])


def test_where_all_neighbours_have_one_label_the_last_bounds_the_margin() -> None:
    found = nearest(np.array([[1, 0]], dtype=np.float32), INDEX, 3)
    np.testing.assert_allclose(margin(found, np.zeros(5, dtype=np.int64)), [0.2], atol=1e-7)


def test_a_single_row_has_no_second() -> None:
    found = nearest(INDEX[:2], INDEX[:1], 5)
    assert np.isnan(margin(found)).all()
    assert np.isnan(peak(found)).all()
    np.testing.assert_allclose(top_score(found), [1.0, 0.8])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_query_that_is_not_finite_gives_no_signal(bad: float) -> None:
    queries = np.array([[1, 0], [bad, 0]], dtype=np.float32)
    found = nearest(queries, INDEX, 3)
    labels = np.arange(5)
    for signal in (top_score(found), margin(found), margin(found, labels), vote(found, labels)[1], peak(found)):
        assert np.isfinite(signal).tolist() == [True, False]


def test_rows_of_the_index_that_are_not_finite_come_last() -> None:
    index = INDEX.copy()
    index[0] = math.nan
    found = nearest(np.array([[1, 0]], dtype=np.float32), index, 5)
    assert found.rows[0].tolist()[-1] == 0
    assert found.rows[0].tolist()[0] == 1


@pytest.mark.parametrize(
    ("queries", "index", "k"), [((1, 2), (0, 2), 1), ((1, 2), (3, 4), 1), ((2,), (3, 2), 1), ((1, 2), (3, 2), 0)]
)
def test_queries_must_fit_the_index(queries: tuple[int, ...], index: tuple[int, ...], k: int) -> None:
    with pytest.raises(DataError):
        nearest(np.zeros(queries), np.zeros(index), k)
