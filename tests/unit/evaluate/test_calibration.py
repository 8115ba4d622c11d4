"""Fits: exact where they can be, alike to a reference elsewhere, and sane where there is nothing to fit."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from stillhouse.errors import DataError
from stillhouse.inference.confidence import Calibration, log_odds
from stillhouse.passes.evaluate.calibration import (
    fit_isotonic,
    fit_outlier,
    fit_platt,
    fit_temperature,
    pool_adjacent_violators,
)
from stillhouse.passes.evaluate.reliability import calibration_error


def drawn(rng: np.random.Generator, n: int, labels: int = 5, scale: float = 2.0) -> tuple[Any, Any]:
    """Return logits whose softmax is true by construction, and labels drawn from it."""
    logits = rng.normal(scale=scale, size=(n, labels))
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    return logits, np.array([rng.choice(labels, p=row) for row in p])


# temperature ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_them_is_found(truth: float) -> None:
    logits, target = drawn(np.random.default_rng(1), 20_000)
    assert fit_temperature(logits * truth, target).temperature == pytest.approx(truth, rel=0.03)


def nll(logits: Any, target: Any, temperature: float) -> float:
    z = logits / temperature
    return float((np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(z)), target]).mean())


def test_no_other_temperature_is_likelier() -> None:
    rng = np.random.default_rng(2)
    logits, target = drawn(rng, 300)
    logits *= 2.5
    found = fit_temperature(logits, target).temperature
    least = nll(logits, target, found)
    assert all(least <= nll(logits, target, other) + 1e-12 for other in np.geomspace(0.05, 20, 300))


def test_a_constant_of_the_row_changes_nothing() -> None:
    logits, target = drawn(np.random.default_rng(3), 200)
    moved = logits + np.random.default_rng(4).normal(scale=100, size=(200, 1))
    assert fit_temperature(moved, target).temperature == pytest.approx(fit_temperature(logits, target).temperature)


@pytest.mark.parametrize("n", [1, 50])
def test_always_right_and_always_wrong_end_at_the_bounds(n: int) -> None:
    logits = np.tile([3.0, 1.0, 0.0], (n, 1))
    assert fit_temperature(logits, np.zeros(n, dtype=np.int64)).temperature == pytest.approx(0.05)
    assert fit_temperature(logits, np.full(n, 2)).temperature == pytest.approx(20)


def test_logits_that_are_all_alike_have_a_temperature() -> None:
    assert 0.05 <= fit_temperature(np.zeros((10, 3)), np.zeros(10, dtype=np.int64)).temperature <= 20


def test_rows_that_are_not_finite_take_no_part() -> None:
    logits, target = drawn(np.random.default_rng(5), 400)
    broken = np.concatenate([logits, np.full((3, 5), math.nan), np.full((1, 5), math.inf)])
    labels = np.concatenate([target, np.zeros(4, dtype=np.int64)])
    assert fit_temperature(broken, labels) == fit_temperature(logits, target)
    with pytest.raises(DataError):
        fit_temperature(np.full((3, 5), math.nan), np.zeros(3, dtype=np.int64))


# isotonic ---------------------------------------------------------------------------------------------------------------


def by_force(values: list[float], weights: list[float]) -> list[float]:
    """Try every way to cut the sequence into flat blocks."""
    best, found = math.inf, values
    for cuts in itertools.product([False, True], repeat=len(values) - 1):
        edges = [0, *(place + 1 for place, cut in enumerate(cuts) if cut), len(values)]
        fitted: list[float] = []
        for start, end in itertools.pairwise(edges):
            mean = sum(v * w for v, w in zip(values[start:end], weights[start:end], strict=True)) / sum(weights[start:end])
            fitted += [mean] * (end - start)
        if all(a <= b + 1e-12 for a, b in itertools.pairwise(fitted)):
            loss = sum(w * (v - f) ** 2 for v, w, f in zip(values, weights, fitted, strict=True))
            if loss < best - 1e-12:
                best, found = loss, fitted
    return found


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), min_size=1, max_size=8))
def test_pooling_is_the_least_squares_solution(rows: list[tuple[int, int]]) -> None:
    values, weights = [value / 8 for value, _ in rows], [float(weight) for _, weight in rows]
    np.testing.assert_allclose(pool_adjacent_violators(np.array(values), np.array(weights)), by_force(values, weights), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.integers(0, 10**6))
def test_pooling_is_scikit_learns_and_never_falls(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=n), rng.uniform(0.1, 3, n)
    found = pool_adjacent_violators(values, weights)
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(found, IsotonicRegression().fit(np.arange(n), values, weights).predict(np.arange(n)), atol=1e-9)


def test_pooling_by_hand() -> None:
    assert pool_adjacent_violators(np.array([1.0, 3.0, 2.0, 4.0])).tolist() == [1.0, 2.5, 2.5, 4.0]
    assert pool_adjacent_violators(np.array([3.0, 0.0]), np.array([1.0, 2.0])).tolist() == [1.0, 1.0]
    assert pool_adjacent_violators(np.array([])).tolist() == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=60))
def test_an_isotonic_map_rises_and_is_a_probability_short_of_certainty(rows: list[tuple[int, bool]]) -> None:
    signal, hit = np.array([float(s) for s, _ in rows]), np.array([h for _, h in rows])
    found = fit_isotonic(signal, hit, name="top", neighbours=1).of_signal(np.linspace(-7, 7, 141))
    assert (np.diff(found) >= -1e-15).all()
    assert found.min() >= 1 / (len(rows) + 2) - 1e-15
    assert found.max() <= 1 - 1 / (len(rows) + 2) + 1e-15


def test_equal_signals_are_one_row() -> None:
    fitted = fit_isotonic(np.array([1.0, 1.0, 1.0, 1.0, 2.0]), np.array([1, 0, 0, 0, 1]), name="top", neighbours=1)
    np.testing.assert_allclose(fitted.of_signal(np.array([0.0, 1.0, 2.0, 9.0])), [0.25, 0.25, 6 / 7, 6 / 7])


def test_weights_count_as_repeated_rows() -> None:
    rng = np.random.default_rng(6)
    signal, hit, weights = rng.normal(size=30), rng.integers(0, 2, 30), rng.integers(1, 4, 30)
    weighted = pool_adjacent_violators(hit[np.argsort(signal)], weights[np.argsort(signal)])
    repeated = np.repeat(signal, weights), np.repeat(hit, weights)
    found = fit_isotonic(*repeated, name="top", neighbours=1).of_signal(np.sort(signal))
    np.testing.assert_allclose(found, np.clip(weighted, 1 / (weights.sum() + 2), 1 - 1 / (weights.sum() + 2)))


def test_flat_stretches_are_two_knots() -> None:
    n = 2_000
    rng = np.random.default_rng(7)
    signal = rng.normal(size=n)
    fitted = fit_isotonic(signal, rng.random(n) < 1 / (1 + np.exp(-signal)))
    assert len(fitted.x) < 200, "the artifact holds knots, not rows"


# platt ------------------------------------------------------------------------------------------------------------------


def test_platt_finds_the_logistic_function_that_drew_the_rows() -> None:
    rng = np.random.default_rng(8)
    signal = rng.normal(0.3, 0.2, 30_000)
    found = fit_platt(signal, rng.random(len(signal)) < 1 / (1 + np.exp(-(6 * signal - 1))), name="margin", neighbours=2)
    assert found.slope == pytest.approx(6, rel=0.05)
    assert found.intercept == pytest.approx(-1, abs=0.08)


def test_platt_is_logistic_regression_where_rows_are_many() -> None:
    rng = np.random.default_rng(9)
    signal = rng.normal(size=5_000)
    hit = rng.random(5_000) < 1 / (1 + np.exp(-(1.5 * signal + 0.5)))
    other = LogisticRegression(C=1e10).fit(signal[:, None], hit)
    found = fit_platt(signal, hit)
    assert found.slope == pytest.approx(other.coef_[0, 0], rel=2e-3)
    assert found.intercept == pytest.approx(other.intercept_[0], rel=1e-2)


def test_rows_that_a_line_parts_have_a_finite_slope() -> None:
    found = fit_platt(np.arange(20.0), np.arange(20) >= 10)
    assert 0 < found.slope < 100
    assert found.of_logits(np.array([[0.0, 0.0]])).shape == (1,)


def test_a_signal_that_speaks_against_hits_says_nothing() -> None:
    signal = np.arange(40.0)
    found = fit_platt(signal, signal < 20, name="top", neighbours=1)
    assert found.slope == 0.0
    np.testing.assert_allclose(found.of_signal(np.array([0.0, 40.0])), [0.5, 0.5], atol=1e-6)


FITS = [fit_isotonic, fit_platt]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("hit", "wanted"), [(1, (0.85, 1.0)), (0, (0.0, 0.15))])
@pytest.mark.parametrize("constant", [False, True])
def test_all_right_and_all_wrong_stay_short_of_certainty(fit: Any, hit: int, wanted: tuple[float, float], constant: bool) -> None:
    signal = np.zeros(20) if constant else np.linspace(0, 1, 20)
    found = fit(signal, np.full(20, hit), name="top", neighbours=1).of_signal(np.array([0.0, 0.5, 1.0]))
    assert ((found > wanted[0]) & (found < wanted[1])).all()


@pytest.mark.parametrize("fit", FITS)
def test_one_row_is_enough_and_none_is_an_error(fit: Any) -> None:
    assert 0 < fit(np.array([0.3]), np.array([1]), name="top", neighbours=1).of_signal(np.array([0.3]))[0] < 1
    for nothing in (np.array([]), np.array([math.nan, math.inf])):
        with pytest.raises(DataError):
            fit(nothing, np.ones(len(nothing)), name="top", neighbours=1)


@pytest.mark.parametrize("fit", FITS)
def test_signals_that_are_not_numbers_take_no_part(fit: Any) -> None:
    signal, hit = np.array([0.1, 0.9, math.nan, 0.5, math.inf]), np.array([0, 1, 1, 1, 0])
    known = np.array([0, 1, 3])
    more = {"name": "top", "neighbours": 1}
    assert fit(signal, hit, **more) == fit(signal[known], hit[known], **more)


@pytest.mark.parametrize("fit", FITS)
def test_a_fit_is_told_what_the_signal_was_read_from(fit: Any) -> None:
    with pytest.raises(DataError):
        fit(np.ones(3), np.ones(3), name="top")
    with pytest.raises(DataError):
        fit(np.ones(3), np.ones(3), name="logits", neighbours=4)
    with pytest.raises(DataError):
        fit(np.ones(3), np.ones(2))


@pytest.mark.parametrize("kind", ["temperature", "isotonic", "platt"])
def test_every_fit_makes_an_overconfident_model_truer_on_rows_it_has_not_seen(kind: str) -> None:
    rng = np.random.default_rng(10)
    logits, target = drawn(rng, 6_000)
    logits *= 3
    seen, unseen = slice(3_000), slice(3_000, None)
    hit = logits.argmax(axis=1) == target
    fitted = {
        "temperature": lambda: fit_temperature(logits[seen], target[seen]),
        "isotonic": lambda: fit_isotonic(log_odds(logits[seen]), hit[seen]),
        "platt": lambda: fit_platt(log_odds(logits[seen]), hit[seen]),
    }[kind]()
    before = calibration_error(Calibration("identity").of_logits(logits[unseen]), hit[unseen])
    after = calibration_error(fitted.of_logits(logits[unseen]), hit[unseen])
    assert before > 0.12
    assert after < 0.04


# unusual inputs ---------------------------------------------------------------------------------------------------------


def test_the_limit_is_the_rank_of_split_conformal_prediction() -> None:
    values = 1 - np.arange(1, 100) / 100  # distances 0.01 … 0.99
    assert fit_outlier("nearest", values, 0.9).limit == pytest.approx(0.9)  # the 90th of 99: ceil(100 · 0.9)
    assert fit_outlier("nearest", values[:5], 0.9).limit == math.inf, "five rows show no 90 %"


def test_usual_inputs_stay_inside_as_often_as_promised() -> None:
    rng = np.random.default_rng(11)
    shares = []
    for _ in range(300):
        rule = fit_outlier("energy", rng.normal(size=(99, 3)), 0.9)
        shares.append(1 - rule.outside(rng.normal(size=(200, 3))).mean())
    assert 0.89 < np.mean(shares) < 0.915  # exactly 0.9 in expectation: 90 of 100 places


def test_a_limit_needs_rows_and_a_share() -> None:
    with pytest.raises(DataError):
        fit_outlier("nearest", np.array([math.nan]))
    with pytest.raises(DataError):
        fit_outlier("nearest", np.array([0.5]), 1.0)
