"""Quantiles of recent latencies: their error, their memory, their silence."""

from __future__ import annotations

import random

import pytest

from stillhouse.edge.away.quantiles import Quantiles


class Time:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 0.99])
def test_quantiles_are_right_within_five_percent(seed: int, share: float) -> None:
    random.seed(seed)
    values = [random.lognormvariate(-4, 1) for _ in range(5000)]
    estimate = Quantiles(clock=Time())
    for each in values:
        estimate.add(each)
    exact = sorted(values)[int(share * len(values))]
    assert estimate.quantile(share) == pytest.approx(exact, rel=0.06)  # 5 % of the bucket, 1 % between neighbours


def test_a_constant_is_met_within_its_bucket() -> None:
    for value in (1e-5, 3e-4, 0.02, 1.0, 100.0):
        estimate = Quantiles(clock=Time())
        for _ in range(20):
            estimate.add(value)
        assert estimate.quantile(0.5) == pytest.approx(value, rel=0.05)


def test_what_is_out_of_range_is_the_nearest_that_is_in() -> None:
    estimate = Quantiles(clock=Time())
    for _ in range(20):
        estimate.add(0.0)
    assert estimate.quantile(0.5) == pytest.approx(1e-5)
    for _ in range(1000):
        estimate.add(1e9)
    assert 200 < (estimate.quantile(0.9) or 0) < 260


def test_there_is_no_answer_from_little() -> None:
    estimate = Quantiles(least=10, clock=Time())
    for _ in range(9):
        estimate.add(0.1)
    assert estimate.quantile(0.5) is None
    estimate.add(0.1)
    assert estimate.quantile(0.5) == pytest.approx(0.1, rel=0.05)


def test_there_is_no_answer_from_long_ago() -> None:
    time = Time()
    estimate = Quantiles(stale=10, memory=1000, clock=time)
    for _ in range(100):
        estimate.add(0.1)
    time.now += 10.0
    assert estimate.quantile(0.5) is not None
    time.now += 0.1
    assert estimate.quantile(0.5) is None


def test_what_is_new_outweighs_what_is_old() -> None:
    time = Time()
    estimate = Quantiles(memory=30, clock=time)
    for _ in range(1000):
        estimate.add(0.01)
    time.now += 60.0  # e^-2: 135 samples are left
    for _ in range(200):
        estimate.add(1.0)
    assert estimate.weight() == pytest.approx(1000 * 0.1353 + 200, rel=0.001)
    assert estimate.quantile(0.5) == pytest.approx(1.0, rel=0.05)
    assert estimate.quantile(0.3) == pytest.approx(0.01, rel=0.05)


def test_years_of_samples_overflow_nothing() -> None:
    time = Time()
    estimate = Quantiles(memory=30, clock=time)
    for _ in range(2000):
        time.now += 3600.0 * 24
        for _ in range(12):
            estimate.add(0.1)
    assert estimate.quantile(0.5) == pytest.approx(0.1, rel=0.05)
    assert estimate.weight() == pytest.approx(12.0)
