"""What of the shapes that a search tried is worth having, when it has stood still for long enough, and what is told of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.scalars import parse_duration, parse_quantity
from stillhouse.passes.distill.search.shapes import Limits, Tried, choose, feasible, front, idle, nearest, words
from stillhouse.passes.distill.search.telling import infeasible, table

LIMITS = Limits(size=500)


def tried(latency: float, quality: float | None, size: int = 100, **shape: int) -> Tried:
    return Tried(shape or {"hiddenLayers": 1}, quality, latency, size, 1, 1.0)


def along(shapes: list[Tried], limits: Limits) -> list[int]:
    """After each shape: how many in a row brought nothing."""
    return [idle(shapes[:count], limits) for count in range(1, len(shapes) + 1)]


def test_the_fastest_within_the_tolerance_is_taken_of_those_that_keep_the_limits() -> None:
    best, near, poor, large = tried(2, 0.90), tried(1, 0.895), tried(0.5, 0.7), tried(0.4, 0.95, size=1000)
    among = [best, near, poor, large]
    assert choose(among, LIMITS, 0.01) is near
    assert choose(among, LIMITS, 0.0) is best
    assert choose(among, Limits(), 0.0) is large
    assert choose(among, Limits(latency=1.5), 0.0) is large
    assert choose(among, Limits(size=500, latency=0.6), 0.01) is poor
    assert choose(among, Limits(size=1), 0.5) is None
    assert nearest(among, Limits(size=50)) is best
    assert front(among) == [large]
    assert front([best, near, poor]) == [poor, near, best]
    assert choose([tried(1, math.nan)], Limits(), 0.1) is None
    assert words(near, "mrr@10") == "layers 1: mrr@10 0.8950, 1000.00 ms a text, 100 B"


def test_what_is_found_within_the_limits_counts_beside_a_shape_beyond_them_that_beats_it_all() -> None:
    large = tried(0.1, 0.99, size=9000)
    better = [tried(5, 0.5), tried(4, 0.6), tried(6, 0.7), tried(3, 0.1)]
    assert along([large, *better], LIMITS) == [0] * 5
    assert along([large, *better], Limits()) == [0, 1, 2, 3, 4]


def test_what_lies_beyond_the_limits_is_no_progress_once_something_is_within() -> None:
    beyond = [tried(0.2, 0.9, size=9000), tried(0.1, 0.99, size=501), tried(0.05, 0.999, size=9000)]
    assert along([tried(5, 0.5), *beyond, tried(4, 0.4)], LIMITS) == [0, 1, 2, 3, 0]


def test_before_anything_keeps_the_limits_only_what_comes_nearer_is_progress() -> None:
    shapes = [
        tried(5, 0.5, size=2000),
        tried(5, 0.5, size=1800),
        tried(1, 0.9, size=1900),  # faster and better, and farther from the limits
        tried(1, 0.9, size=1800),
        tried(9, 0.1, size=600),
        tried(9, 0.1, size=500),  # the first within
        tried(10, 0.1, size=400),  # smaller is no aim of its own
        tried(8, 0.1, size=500),
    ]
    assert along(shapes, LIMITS) == [0, 0, 1, 2, 0, 0, 1, 0]
    assert along([tried(5, math.nan), tried(5, 0.5)], LIMITS) == [0, 0], "what has no quality is not within"


def test_what_was_not_trained_is_not_counted_once_something_is_within() -> None:
    beyond = [tried(5, None, size=900), tried(5, None, size=800), tried(5, None, size=900)]
    assert along([*beyond, tried(5, 0.5), *beyond, tried(6, 0.4), beyond[0]], LIMITS) == [0, 0, 1, 0, 0, 0, 0, 1, 1]
    assert words(beyond[0], "mrr@10") == "layers 1: beyond the limits, not trained, 5000.00 ms a text, 900 B"
    assert nearest(beyond, LIMITS) is beyond[1]


def shapes(*qualities: float | None) -> st.SearchStrategy[list[Tried]]:
    one = st.builds(
        tried, st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.sampled_from(qualities), st.sampled_from([400, 500, 600, 700])
    )
    return st.lists(one, max_size=12)


SHAPES = shapes(0.5, 0.6, 0.7, math.nan)


@given(shapes(0.5, 0.6, 0.7, math.nan, None), st.sampled_from([LIMITS, Limits(), Limits(latency=0.25), Limits(450, 0.15)]))
def test_idle_by_its_definition(shapes: list[Tried], limits: Limits) -> None:
    expected, least = 0, math.inf
    for count, each in enumerate(shapes):
        before, after = (front(feasible(shapes[:end], limits)) for end in (count, count + 1))
        if before and each.quality is None:
            continue
        gained = after != before or (not before and limits.over(each) < least)
        expected, least = (0 if gained else expected + 1), min(least, limits.over(each))
    assert idle(shapes, limits) == expected


@given(SHAPES, st.floats(0, 1))
def test_what_is_taken_is_on_the_front_and_nothing_faster_is_good_enough(shapes: list[Tried], tolerance: float) -> None:
    taken, within = choose(shapes, LIMITS, tolerance), [each for each in feasible(shapes, LIMITS) if math.isfinite(each.rank)]
    if taken is None:
        assert not within
        return
    assert any(each is taken for each in front(within))
    enough = max(each.rank for each in within) * (1 - tolerance)
    assert taken.rank >= enough - 1e-9
    assert all(each.rank < enough + 1e-9 for each in within if each.latency < taken.latency)


def test_the_front_as_a_table() -> None:
    wide = Tried({"hiddenLayers": 12, "vocabularySize": 16000}, 0.7715, 0.01038, 1_700_000, 12_345_678, 60.0)
    fast = Tried({"hiddenLayers": 1, "vocabularySize": 8000}, 0.7, 0.0004, 300_000, 999, 30.0)
    beaten = Tried({"hiddenLayers": 2, "vocabularySize": 8000}, 0.69, 0.0005, 300_000, 1, 30.0)
    large = Tried({"hiddenLayers": 3, "vocabularySize": 8000}, 0.9, 0.0001, 10_000_000, 1, 30.0)
    shapes = [wide, beaten, fast, large]
    assert table(shapes, fast, Limits(size=2_000_000), "accuracy") == [
        "shape                     accuracy    a text       size  multiply-accumulates",
        "layers 1, 8,000 tokens      0.7000   0.40 ms  293.0 KiB                   999  taken",
        "layers 12, 16,000 tokens    0.7715  10.38 ms    1.6 MiB            12,345,678",
        "2 that no other beats in both accuracy and time; 4 tried, 3 within the limits",
    ]
    assert table(shapes, large, Limits(), "mrr@10")[1:] == [
        "layers 3, 8,000 tokens  0.9000  0.10 ms  9.5 MiB                     1  taken",
        "1 that no other beats in both mrr@10 and time; 4 tried",
    ]


def test_the_nearest_is_told_with_the_limits_that_it_would_keep() -> None:
    slow, large = tried(0.0123, 0.6, size=5000), tried(0.002, 0.7, size=60_000)

    def told(limits: Limits, patience: int | None = None) -> tuple[str, str, str]:
        problem = infeasible([slow, large], limits, "accuracy", patience).problem
        assert problem.field == "spec.distill.search"
        return problem.found, problem.allowed, problem.fix

    smaller = "search among smaller shapes (hiddenLayers, hiddenSize, vocabulary)"
    line = "the nearest of 2: layers 1: accuracy 0.6000, 12.30 ms a text, 4.9 KiB"
    assert told(Limits(5000, 0.010)) == (
        line,
        "maxSize 4.9 KiB, maxLatencyP50 10 ms",
        f"write maxLatencyP50: 13.53ms, which it keeps, or {smaller}",
    )
    assert told(Limits(4096, 0.0125)) == (
        line,
        "maxSize 4.0 KiB, maxLatencyP50 12.5 ms",
        f"write maxSize: 5Ki, which it keeps, or {smaller}",
    )
    assert told(Limits(4096, 0.010))[2] == f"write maxSize: 5Ki, maxLatencyP50: 13.53ms, which it keeps, or {smaller}"
    assert told(Limits(latency=0.001), 6)[1:] == (
        "maxLatencyP50 1 ms",
        f"write maxLatencyP50: 2.2ms, which it keeps, or {smaller}, or raise patience: 6 in a row came no nearer",
    )


@pytest.mark.parametrize("latency", [0.0000004, 0.00031, 0.0123, 1.5, 75.0])
def test_the_limits_that_are_told_can_be_written_and_are_kept(latency: float) -> None:
    each = tried(latency, 0.6, size=5001)
    fix = infeasible([each], Limits(1.0, latency / 2), "accuracy", None).problem.fix
    size, duration = (part.partition(": ")[2] for part in fix.removeprefix("write ").split(", ")[:2])
    assert Limits(parse_quantity(size), parse_duration(duration)).over(each) == 0
