"""Three verdicts: the interval's unfavourable end is held against the limit."""

from __future__ import annotations

import json
import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.passes.evaluate.intervals import Interval, Share
from stillhouse.passes.evaluate.verdict import Check, Outcome, combine, compare, describe

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("sense", "limit", "low", "high", "outcome"),
    [
        ("min", 0.7, 0.70, 0.80, "passed"),
        ("min", 0.7, 0.71, 0.80, "passed"),
        ("min", 0.7, 0.69, 0.80, "inconclusive"),
        ("min", 0.7, 0.60, 0.70, "inconclusive"),
        ("min", 0.7, 0.60, 0.69, "failed"),
        ("max", 20.0, 10.0, 20.0, "passed"),
        ("max", 20.0, 10.0, 19.0, "passed"),
        ("max", 20.0, 10.0, 21.0, "inconclusive"),
        ("max", 20.0, 20.0, 21.0, "inconclusive"),
        ("max", 20.0, 20.1, 21.0, "failed"),
        ("max", 0.0, 0.0, 0.0, "passed"),
        ("min", 0.0, 0.0, 0.0, "passed"),
        ("max", 20.0, 10.0, INF, "inconclusive"),
        ("max", 20.0, 21.0, INF, "failed"),
        ("min", 20.0, -INF, INF, "inconclusive"),
        ("min", 0.7, NAN, NAN, "failed"),
        ("max", 0.7, NAN, NAN, "failed"),
    ],
)
def test_the_table(sense: Literal["min", "max"], limit: float, low: float, high: float, outcome: Outcome) -> None:
    middle = (low + high) / 2 if math.isfinite(high - low) else low if math.isnan(low) else limit
    check = compare("figure", sense, limit, Interval(middle, low, high, 9))
    assert check.outcome == outcome
    assert describe(check).startswith("figure ")


def test_an_estimate_that_meets_the_limit_is_not_enough() -> None:
    assert compare("mrr@10", "min", 0.7, Interval(0.75, 0.69, 0.81, 100)).outcome == "inconclusive"


FINITE = st.floats(-1e6, 1e6)


@given(FINITE, FINITE, FINITE, FINITE)
def test_a_minimum_is_a_maximum_seen_from_the_other_side(limit: float, a: float, b: float, c: float) -> None:
    low, middle, high = sorted((a, b, c))
    one = compare("x", "min", limit, Interval(middle, low, high, 3)).outcome
    other = compare("x", "max", -limit, Interval(-middle, -high, -low, 3)).outcome
    assert one == other


@given(FINITE, FINITE, FINITE, st.floats(0, 1e3))
def test_a_stricter_limit_never_turns_out_better(limit: float, a: float, b: float, more: float) -> None:
    order = {"failed": 0, "inconclusive": 1, "passed": 2}
    low, high = sorted((a, b))
    interval = Interval((low + high) / 2, low, high, 3)
    assert order[compare("x", "min", limit + more, interval).outcome] <= order[compare("x", "min", limit, interval).outcome]
    assert order[compare("x", "max", limit - more, interval).outcome] <= order[compare("x", "max", limit, interval).outcome]


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "passed"),
        (["passed", "passed"], "passed"),
        (["passed", "inconclusive"], "inconclusive"),
        (["inconclusive", "failed", "passed"], "failed"),
    ],
)
def test_one_failed_limit_fails_and_one_noisy_one_leaves_it_open(outcomes: list[Outcome], verdict: Outcome) -> None:
    checks = [Check("x", "min", 1.0, Interval(1, 1, 1, 1), outcome) for outcome in outcomes]
    assert combine(checks) == verdict


def test_a_missed_limit_is_said_with_how_much_was_missed() -> None:
    failed = compare("latencyP99", "max", 0.020, Interval(0.030, 0.025, 0.036, 1000), "s")
    assert describe(failed) == (
        "latencyP99 30.00 ms [25.00 ms, 36.00 ms] (n=1000), at most 20.00 ms wanted: missed by 16.00 ms (80.0% of the limit)"
    )
    open_one = compare("mrr@10 / teacher", "min", 0.7, Interval(0.72, 0.68, 0.76, 500))
    assert "unfavourable end misses it by 0.0200 (2.9% of the limit), too noisy to tell" in describe(open_one)
    size = compare("size", "max", 12 * 2**20, Interval(13 * 2**20, 13 * 2**20, 13 * 2**20, 1), "B")
    assert "missed by 1.0 MiB" in describe(size)
    small = compare("size", "max", 1024.0, Interval(1536, 1536, 1536, 1), "B")
    assert describe(small).startswith("size 1.5 KiB [1.5 KiB, 1.5 KiB] (n=1), at most 1.0 KiB wanted: missed by 512 B")
    assert "at most 0.0000 wanted" in describe(compare("x", "max", 0.0, Interval(1, 1, 1, 1)))
    speed = compare("throughput", "min", 100.0, Interval(90, 80, 95, 6), "/s")
    assert "missed by 20.0/s" in describe(speed)


def test_what_cannot_be_bounded_is_said_in_words() -> None:
    text = describe(compare("latencyP99", "max", 0.02, Interval(0.01, 0.009, INF, 50), "s"))
    assert "unknown" in text
    assert "too few measurements" in text
    assert "not numbers" in describe(compare("cosine", "min", 0.9, Interval(NAN, NAN, NAN, 5)))


def test_a_share_is_said_and_kept_with_what_it_is_of() -> None:
    share = Share(0.7436, 0.6475, 0.8441, 150, Interval(0.58, 0.5, 0.66, 150), Interval(0.78, 0.71, 0.84, 150))
    check = compare("accuracy / teacher", "min", 0.95, share)
    assert describe(check).startswith(
        "accuracy / teacher 0.7436 [0.6475, 0.8441] (n=150; student 0.580 [0.500, 0.660], teacher 0.780 [0.710, 0.840]), at least"
    )
    data = json.loads(json.dumps(check.to_json(), allow_nan=False))
    assert data["interval"]["teacher"] == {"estimate": 0.78, "low": 0.71, "high": 0.84, "n": 150}
    assert data["interval"]["student"]["estimate"] == 0.58


def test_checks_are_json() -> None:
    check = compare("latencyP99", "max", 0.02, Interval(0.01, 0.009, math.inf, 50), "s")
    data = json.loads(json.dumps(check.to_json(), allow_nan=False))
    assert data["interval"] == {"estimate": 0.01, "low": 0.009, "high": None, "n": 50}
    assert data["outcome"] == "inconclusive"
