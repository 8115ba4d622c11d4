"""Deadlines: the margin, the legs' shares, and what is refused without asking."""

from __future__ import annotations

import math

import pytest

from stillhouse.edge.away.deadlines import DeadlinePolicy, Deadlines
from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.status import Code, Refused


class Bench:
    def __init__(self, edge: float | None = None, cloud: float | None = None, **policy) -> None:
        self.time = 1000.0
        self.deadlines = Deadlines(DeadlinePolicy(**policy), edge=self.leg(edge), cloud=self.leg(cloud), clock=lambda: self.time)

    def leg(self, seconds: float | None) -> Quantiles:
        quantiles = Quantiles(clock=lambda: self.time)
        for _ in range(0 if seconds is None else 100):
            quantiles.add(seconds)
        return quantiles


def test_the_cloud_is_told_what_is_left_minus_the_margin() -> None:
    bench = Bench(margin=0.005, margin_share=0.02)
    deadline = bench.deadlines.start(0.100)
    bench.time += 0.020
    assert bench.deadlines.cloud_timeout(deadline) == pytest.approx(0.075)
    assert bench.deadlines.cloud_timeout(bench.deadlines.start(10.0)) == pytest.approx(9.8)


def test_the_margin_is_at_most_half() -> None:
    bench = Bench(margin=0.005)
    assert bench.deadlines.cloud_timeout(bench.deadlines.start(0.004)) == pytest.approx(0.002)


def test_a_client_without_a_deadline_gets_the_default_and_nobody_more_than_the_longest() -> None:
    bench = Bench(default=30.0, longest=600.0)
    assert bench.deadlines.start(None) == pytest.approx(bench.time + 30)
    assert bench.deadlines.start(1e9) == pytest.approx(bench.time + 600)
    endless = Bench(default=None).deadlines
    assert endless.start(None) == math.inf
    assert endless.cloud_timeout(math.inf) is None
    assert endless.legs(math.inf).cloud_fits


def test_the_edge_leg_ends_early_enough_for_the_cloud() -> None:
    bench = Bench(edge=0.010, cloud=0.040)
    legs = bench.deadlines.legs(bench.deadlines.start(0.100))
    assert legs.cloud_fits
    assert legs.edge_until - bench.time == pytest.approx(0.095 - 0.040, rel=0.05)


def test_where_both_do_not_fit_the_edge_has_all() -> None:
    bench = Bench(edge=0.010, cloud=0.090)
    legs = bench.deadlines.legs(bench.deadlines.start(0.100))
    assert not legs.cloud_fits
    assert legs.edge_until - bench.time == pytest.approx(0.095)


def test_without_measurements_nothing_is_kept_back() -> None:
    bench = Bench()
    legs = bench.deadlines.legs(bench.deadlines.start(0.100))
    assert legs.cloud_fits
    assert legs.edge_until - bench.time == pytest.approx(0.095)


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_refused(timeout: float) -> None:
    with pytest.raises(Refused) as caught:
        Bench().deadlines.start(timeout)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert caught.value.pushback == "-1"


def test_what_no_leg_can_answer_is_refused_at_the_start() -> None:
    bench = Bench(edge=0.010, cloud=0.040)
    with pytest.raises(Refused, match="an answer takes at least 10 ms"):
        bench.deadlines.start(0.009)
    bench.deadlines.start(0.020)
    assert bench.deadlines.refused == 1


def test_a_cloud_that_cannot_make_it_is_not_asked() -> None:
    bench = Bench(edge=0.010, cloud=0.040)
    deadline = bench.deadlines.start(0.100)
    bench.time += 0.050
    assert bench.deadlines.cloud_timeout(deadline) == pytest.approx(0.045)
    bench.time += 0.010
    with pytest.raises(Refused) as caught:
        bench.deadlines.cloud_timeout(deadline)
    assert caught.value.code == Code.DEADLINE_EXCEEDED


def test_who_refuses_by_old_measurements_asks_again_after_a_while() -> None:
    bench = Bench(cloud=5.0)
    with pytest.raises(Refused):
        bench.deadlines.cloud_timeout(bench.deadlines.start(1.0))
    bench.time += 10.1
    assert bench.deadlines.cloud_timeout(bench.deadlines.start(1.0)) == pytest.approx(0.98)


def test_a_cloud_is_to_blame_only_where_it_had_time() -> None:
    known, unknown = Bench(cloud=0.1).deadlines, Bench().deadlines
    assert not known.fair(0.15)
    assert known.fair(0.25)
    assert not unknown.fair(0.9)
    assert unknown.fair(1.0)
    assert unknown.fair(None)
