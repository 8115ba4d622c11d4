"""Intervals: they enclose what they claim to, as often as they claim to."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from stillhouse.passes.evaluate.intervals import (
    Interval,
    block_interval,
    bootstrap,
    clopper_pearson,
    fewest_for_upper_end,
    most_below,
    quantile_interval,
)

ROUNDS = 400


def covered(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([each.low <= truth <= each.high for each in intervals]))


def test_the_bootstrap_encloses_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    found = []
    for _ in range(200):
        values = rng.exponential(2.0, 200)
        found.append(bootstrap(lambda rows, values=values: float(values[rows].mean()), 200, rounds=300))  # type: ignore[misc]
    assert 0.89 <= covered(found, 2.0) <= 0.99


def test_the_bootstrap_agrees_with_the_normal_interval_of_a_mean() -> None:
    values = np.random.default_rng(3).normal(5, 2, 1000)
    found = bootstrap(lambda rows: float(values[rows].mean()), 1000)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert found.n == 1000


def test_the_bootstrap_is_the_same_every_time() -> None:
    values = np.random.default_rng(3).normal(size=50)
    first, second = (bootstrap(lambda rows: float(values[rows].mean()), 50) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("n", [1, 5, 100, 1000])
def test_what_has_no_exception_is_bounded_by_what_was_not_seen(n: int) -> None:
    """Clopper and Pearson's interval of n right answers of n, and of none: R's binom.test gives the same ends."""
    right = bootstrap(lambda rows: 1.0, n, rounds=20)
    assert (right.estimate, right.high) == (1.0, 1.0)
    assert right.low**n == pytest.approx(0.025)
    wrong = bootstrap(lambda rows: 0.0, n, rounds=20)
    assert (wrong.estimate, wrong.low, wrong.high) == (0.0, 0.0, pytest.approx(1 - right.low))


def test_the_unseen_may_lie_anywhere_within_the_range() -> None:
    cosine = bootstrap(lambda rows: 1.0, 10, rounds=20, within=(-1.0, 1.0))
    assert cosine.low == pytest.approx(1 - 2 * (1 - 0.025**0.1))
    alike = bootstrap(lambda rows: 1.0, 10, rounds=20, within=(0.0, 2.0))
    assert alike.high - 1 == pytest.approx(1 - alike.low) == pytest.approx(1 - 0.025**0.1)


def test_samples_without_a_figure_do_not_count() -> None:
    """A ratio whose denominator is empty in a few samples still has an interval."""
    values = np.array([0.0] * 5 + [1.0])
    found = bootstrap(lambda rows: 1.0 if values[rows].sum() else float("nan"), 6)
    assert (found.estimate, found.high) == (1.0, 1.0)
    nothing = bootstrap(lambda rows: float("nan"), 6)
    assert math.isnan(nothing.estimate)
    assert math.isnan(nothing.low)


@pytest.mark.parametrize(("q", "n"), [(0.5, 50), (0.5, 1000), (0.99, 1000), (0.99, 4000)])
def test_the_interval_of_a_quantile_encloses_it_as_often_as_it_says(q: float, n: int) -> None:
    rng = np.random.default_rng(11)
    truth = -math.log(1 - q)
    found = [quantile_interval(rng.exponential(1.0, n), q) for _ in range(ROUNDS)]
    assert covered(found, truth) >= 0.93
    # And not by being endless: half of them are narrower than the distribution is wide.
    assert float(np.median([each.high - each.low for each in found])) < 4.0


@pytest.mark.parametrize("n", [1, 50, 200, 367])
def test_too_few_requests_cannot_bound_a_99th_percentile(n: int) -> None:
    """The largest of 200 latencies is below the true 99th percentile 13 times in 100: it is no upper end at 95 %."""
    values = np.random.default_rng(n).exponential(1.0, n)
    found = quantile_interval(values, 0.99)
    assert found.high == math.inf
    assert found.estimate == pytest.approx(np.quantile(values, 0.99))


def test_enough_requests_can() -> None:
    values = np.random.default_rng(1).exponential(1.0, 368)
    assert quantile_interval(values, 0.99).high == values.max()


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99, 0.999])
def test_how_many_values_it_takes_to_bound_a_quantile(q: float) -> None:
    n = fewest_for_upper_end(q)
    assert quantile_interval(np.arange(n, dtype=np.float64), q).high == n - 1
    assert quantile_interval(np.arange(n - 1, dtype=np.float64), q).high == math.inf
    assert q**n <= 0.025 < q ** (n - 1)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_lies_in_its_interval(values: list[float], q: float) -> None:
    found = quantile_interval(np.array(values), q)
    assert found.low <= found.estimate <= found.high
    assert found.n == len(values)


@pytest.mark.parametrize(("n", "ranks"), [(6, (1, 6)), (12, (3, 10)), (18, (5, 14)), (24, (7, 18))], ids=["6", "12", "18", "24"])
def test_the_ends_of_a_median_are_those_of_the_sign_test(n: int, ranks: tuple[float, float]) -> None:
    """Ranks from tables of the sign test at 95 % (two-sided)."""
    blocks = list(np.random.default_rng(n).permutation(n) + 1.0)
    found = block_interval(blocks)
    assert (found.low, found.high) == ranks
    assert found.estimate == pytest.approx((n + 1) / 2)


@pytest.mark.parametrize("n", [6, 12, 24])
def test_the_interval_of_a_median_encloses_it_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(5)
    found = [block_interval(list(rng.lognormal(0.0, 0.5, n))) for _ in range(1000)]
    assert 0.95 <= covered(found, 1.0) <= 0.99


def test_measuring_more_does_not_widen_the_interval() -> None:
    rng = np.random.default_rng(8)
    widths = {
        n: np.mean([(i := block_interval(list(rng.normal(100, 5, n)))).high - i.low for _ in range(200)]) for n in (6, 12, 24)
    }
    assert widths[6] > widths[12] > widths[24]


@pytest.mark.parametrize("n", [1, 5])
def test_few_blocks_bound_nothing(n: int) -> None:
    found = block_interval([float(value) for value in range(n)])
    assert (found.low, found.high) == (-math.inf, math.inf)


@settings(max_examples=50)
@given(st.floats(), st.floats(), st.floats())
def test_intervals_are_json_whatever_they_hold(estimate: float, low: float, high: float) -> None:
    data = json.loads(json.dumps(Interval(estimate, low, high, 3).to_json(), allow_nan=False))
    assert (data["estimate"] is None) == (not math.isfinite(estimate))
    assert data["n"] == 3


@pytest.mark.parametrize(
    ("count", "n"), [(0, 1), (1, 1), (0, 50), (3, 50), (50, 50), (49, 50), (812, 1000), (4990, 5000), (20, 20_000)]
)
def test_the_exact_interval_of_a_share_is_scipys(count: int, n: int) -> None:
    found = clopper_pearson(count, n)
    wanted = binomtest(count, n).proportion_ci(0.95, method="exact")
    assert found.estimate == count / n
    assert found.low == pytest.approx(wanted.low, abs=1e-9)
    assert found.high == pytest.approx(wanted.high, abs=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_each_end_of_a_share_holds_as_often_as_it_says(share: float) -> None:
    """Exactly: the probability of all counts whose upper (lower) end leaves the truth out."""
    n = 200
    p = binom.pmf(np.arange(n + 1), n, share)
    found = [clopper_pearson(count, n) for count in range(n + 1)]
    assert sum(q for q, each in zip(p, found, strict=True) if each.high < share) <= 0.025
    assert sum(q for q, each in zip(p, found, strict=True) if each.low > share) <= 0.025


@settings(max_examples=100, deadline=None)
@given(st.floats(0.001, 0.999), st.integers(1, 400))
def test_the_most_that_stay_below_a_share_is_the_last_count_whose_upper_end_does(share: float, n: int) -> None:
    found = most_below(share, n)
    if found is None:
        assert clopper_pearson(0, n).high > share - 1e-9
    else:
        assert clopper_pearson(found, n).high <= share + 1e-9
        assert clopper_pearson(found + 1, n).high > share - 1e-9


def test_nothing_is_below_zero_and_everything_below_one() -> None:
    assert (most_below(0.0, 10**6), most_below(1.0, 7)) == (None, 7)


@pytest.mark.parametrize(("count", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_a_share_is_of_something(count: int, n: int) -> None:
    with pytest.raises(ValueError, match="of"):
        clopper_pearson(count, n)
