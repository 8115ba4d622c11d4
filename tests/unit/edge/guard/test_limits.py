"""Limits per client and over all: exact, by a clock of the test's own."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.edge.guard.limits import Limiter, Limits
from stillhouse.edge.guard.refusals import Refusal


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def asked(limiter: Limiter, client: str) -> Refusal | None:
    """Ask, and be answered at once."""
    refusal = limiter.enter(client)
    if refusal is None:
        limiter.leave(client)
    return refusal


def admitted(limiter: Limiter, client: str, most: int = 1000) -> int:
    """Return how many requests are admitted before the first refusal."""
    return next((count for count in range(most) if asked(limiter, client) is not None), most)


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limiter = Limiter(Limits(rate=4, burst=3), clock)
    assert admitted(limiter, "a") == 3
    refusal = asked(limiter, "a")
    assert refusal is not None
    assert refusal.status == "RESOURCE_EXHAUSTED"
    assert refusal.problem.allowed == "4 requests per second, 3 at once"
    assert refusal.retry_after == pytest.approx(0.25)
    assert "try again in 0.25 s" in str(refusal)
    clock.now += 0.2
    assert asked(limiter, "a") is not None
    clock.now += 0.05
    assert admitted(limiter, "a") == 1
    clock.now += 3600
    assert admitted(limiter, "a") == 3, "an hour saves up no more than the burst"


@given(st.floats(0.01, 1000), st.integers(1, 50), st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_never_more_than_burst_and_rate_and_never_a_longer_wait_than_was_told(
    rate: float, burst: int, pauses: list[float]
) -> None:
    clock = Clock()
    limiter = Limiter(Limits(rate=rate, burst=burst), clock)
    start, count = clock.now, 0
    for pause in pauses:
        clock.now += pause
        count += admitted(limiter, "a", 200)
        assert count <= burst + (clock.now - start) * rate * (1 + 1e-6) + 1e-3
        refusal = asked(limiter, "a")
        if refusal is not None:
            assert refusal.retry_after is not None
            clock.now += refusal.retry_after + 1e-6
            assert asked(limiter, "a") is None
            count += 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 2)), max_size=80))
def test_two_clients_do_not_know_of_each_other(asks: list[tuple[str, float]]) -> None:
    clock = Clock()
    limits = Limits(rate=2, burst=2, concurrency=1)
    both, alone = Limiter(limits, clock), {name: Limiter(limits, clock) for name in "ab"}
    for name, pause in asks:
        clock.now += pause
        assert (asked(both, name) is None) == (asked(alone[name], name) is None)


def test_concurrency_of_one_and_of_all() -> None:
    limiter = Limiter(Limits(concurrency=2, total=3), Clock())
    assert [limiter.enter(name) for name in ("a", "a", "b")] == [None] * 3
    busy = limiter.enter("c")
    assert busy is not None
    assert (busy.problem.field, busy.problem.allowed, busy.retry_after) == ("requests in flight", "3", 1.0)
    limiter.leave("b")
    own = limiter.enter("a")
    assert own is not None
    assert own.problem.field == "requests in flight of one client"
    assert limiter.enter("c") is None
    limiter.leave("a")
    assert limiter.enter("a") is None
    for name in ("a", "a", "c"):
        limiter.leave(name)
    assert limiter.in_flight == 0
    with pytest.raises(KeyError):
        limiter.leave("a")


def test_what_is_refused_for_a_place_costs_no_token() -> None:
    limiter = Limiter(Limits(rate=1, burst=2, concurrency=1), Clock())
    assert limiter.enter("a") is None
    for _ in range(10):
        assert limiter.enter("a") is not None
    limiter.leave("a")
    assert limiter.enter("a") is None


def test_nobody_resets_a_bucket_by_having_it_pushed_out() -> None:
    """The client spends its burst, then asks under so many names that its own is forgotten."""
    clock = Clock()
    limiter = Limiter(Limits(rate=1, burst=5, clients=10), clock)
    assert admitted(limiter, "mallory") == 5
    pushed = sum(asked(limiter, f"name-{number}") is None for number in range(1000))
    assert pushed >= 10, "enough names to push it out"
    assert limiter.remembered == 10
    assert asked(limiter, "mallory") is not None, "it comes back to the bucket that it left"
    clock.now += 1.001
    assert admitted(limiter, "mallory") <= 1


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 12), st.floats(0, 1.5)), max_size=150))
def test_no_order_of_names_gives_one_client_more_than_it_has_alone(clients: int, asks: list[tuple[int, float]]) -> None:
    clock = Clock()
    limits = Limits(rate=1, burst=3, clients=clients)
    limiter, alone = Limiter(limits, clock), Limiter(Limits(rate=1, burst=3, clients=100), clock)
    start, counts = clock.now, dict.fromkeys(range(13), 0)
    for name, pause in asks:
        clock.now += pause
        counts[name] += asked(limiter, str(name)) is None
        asked(alone, str(name))
        assert counts[name] <= 3 + (clock.now - start) + 1e-6
        assert limiter.remembered <= clients


def test_a_flood_of_names_is_itself_limited_and_the_known_go_on() -> None:
    """A million names: never more remembered than the limit, and a client that asks as it may is admitted all the while."""
    clock = Clock()
    limiter = Limiter(Limits(rate=1, burst=2, clients=50), clock)
    through = 0
    for number in range(20_000):
        clock.now += 0.001
        if number % 1000 == 0:
            assert asked(limiter, "known") is None, number
        through += asked(limiter, f"flood-{number}") is None
    assert limiter.remembered == 50
    assert through <= 50 * 20 + 100, "as much as fifty clients may ask in twenty seconds, and their bursts"


def test_names_that_are_refused_are_not_remembered() -> None:
    limiter = Limiter(Limits(rate=1, total=1, clients=5), Clock())
    assert limiter.enter("a") is None
    for number in range(100):
        assert limiter.enter(f"name-{number}") is not None
    assert limiter.remembered == 1


def test_a_name_of_megabytes_takes_no_megabytes() -> None:
    limiter = Limiter(Limits(rate=1, burst=1), Clock())
    name = "x" * 10_000_000
    assert asked(limiter, name) is None
    assert asked(limiter, name) is not None
    assert asked(limiter, name + "y") is None
    assert all(sys.getsizeof(key) < 300 for key in limiter._full_at)
    refusal = limiter.enter(name)
    assert refusal is not None
    assert len(str(refusal)) < 300


def test_a_clock_that_jumps_back_gives_nothing_and_takes_nothing() -> None:
    clock = Clock()
    limiter = Limiter(Limits(rate=1, burst=2), clock)
    assert admitted(limiter, "a") == 2
    clock.now -= 86_400
    assert asked(limiter, "a") is not None
    clock.now += 1.0
    assert asked(limiter, "a") is None, "time goes on from where it was, not from a day later"
    assert asked(limiter, "new") is None


def test_a_clock_that_jumps_ahead_gives_one_burst() -> None:
    clock = Clock()
    limiter = Limiter(Limits(rate=1, burst=2), clock)
    admitted(limiter, "a")
    clock.now += 1e9
    assert admitted(limiter, "a") == 2


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"rate": -1}, {"rate": float("nan")}, {"rate": float("inf")}, {"burst": 0}, {"clients": 0}, {"busy": -1}],
)
def test_limits_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]


def test_names_of_clients_cannot_write_into_a_terminal() -> None:
    limiter = Limiter(Limits(rate=1), Clock())
    asked(limiter, "\x1b[2J\n")
    refusal = asked(limiter, "\x1b[2J\n")
    assert refusal is not None
    assert str(refusal).isprintable()
