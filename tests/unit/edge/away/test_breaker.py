"""The breaker: when it opens, for how long, and what closes it."""

from __future__ import annotations

import pytest

from stillhouse.edge.away.breaker import Breaker, BreakerPolicy, BreakerState, Verdict, judge
from stillhouse.edge.status import Code, Refused, RpcError

OK, BAD, NOTHING = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NOTHING


class Bench:
    """A breaker, a clock that is set by hand, and jitter in the middle."""

    def __init__(self, **policy) -> None:
        self.time = 100.0
        self.changes: list[str] = []
        self.drawn: list[tuple[float, float]] = []
        self.breaker = Breaker(
            BreakerPolicy(**policy),
            clock=lambda: self.time,
            uniform=self.draw,
            on_change=lambda old, new: self.changes.append(f"{old}>{new}"),
        )

    def draw(self, low: float, high: float) -> float:
        self.drawn.append((low, high))
        return (low + high) / 2

    def send(self, *verdicts: Verdict) -> list[bool]:
        """Send requests one after the other; say which were let through."""
        through = []
        for verdict in verdicts:
            ticket = self.breaker.admit()
            through.append(ticket is not None)
            if ticket is not None:
                self.breaker.record(ticket, verdict)
        return through

    def open_for(self) -> float:
        return self.breaker.retry_in


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    bench = Bench(consecutive=3)
    bench.send(BAD, BAD, OK, BAD, BAD)
    assert bench.breaker.state is BreakerState.CLOSED
    bench.send(BAD)
    assert bench.breaker.state is BreakerState.OPEN
    assert bench.send(OK) == [False]
    assert bench.breaker.refused == 1


def test_what_says_nothing_neither_breaks_a_row_nor_makes_one() -> None:
    bench = Bench(consecutive=3)
    bench.send(BAD, BAD, NOTHING, NOTHING, NOTHING, NOTHING)
    assert bench.breaker.state is BreakerState.CLOSED
    bench.send(BAD)
    assert bench.breaker.state is BreakerState.OPEN


def test_the_share_of_failures_counts_from_the_minimum_of_requests_on() -> None:
    bench = Bench(consecutive=100, minimum=20, failure_rate=0.5)
    bench.send(*[BAD, OK] * 9, BAD)
    assert bench.breaker.snapshot().requests == 19
    assert bench.breaker.state is BreakerState.CLOSED
    bench.send(BAD)
    assert bench.breaker.state is BreakerState.OPEN


def test_a_share_just_under_the_limit_does_not_open_it() -> None:
    bench = Bench(consecutive=100, minimum=20, failure_rate=0.5)
    bench.send(*[OK, BAD, OK] * 100)
    assert bench.breaker.state is BreakerState.CLOSED


def test_what_has_left_the_window_does_not_count() -> None:
    bench = Bench(consecutive=100, minimum=20, window=10.0)
    bench.send(*[BAD] * 19)
    bench.time += 10.0
    bench.send(BAD)
    assert bench.breaker.snapshot().requests == 1
    assert bench.breaker.state is BreakerState.CLOSED


def test_the_window_slides_by_tenths() -> None:
    bench = Bench(consecutive=100, minimum=1000, window=10.0)
    for _ in range(30):
        bench.send(OK)
        bench.time += 1.0
    assert bench.breaker.snapshot().requests == 9  # the current tenth is still empty


def test_after_its_time_one_probe_at_once_goes_through() -> None:
    bench = Bench(consecutive=1, probes=1, successes=2)
    bench.send(BAD)
    bench.time += 0.999
    assert bench.send(OK) == [False]
    bench.time += 0.001
    assert bench.breaker.state is BreakerState.HALF_OPEN
    first = bench.breaker.admit()
    assert first is not None
    assert bench.breaker.admit() is None
    bench.breaker.record(first, OK)
    assert bench.breaker.state is BreakerState.HALF_OPEN
    assert bench.send(OK) == [True]
    assert bench.breaker.state is BreakerState.CLOSED
    assert bench.changes == ["closed>open", "open>half-open", "half-open>closed"]


def test_so_many_probes_at_once_as_are_allowed() -> None:
    bench = Bench(consecutive=1, probes=3)
    bench.send(BAD)
    bench.time += 1.0
    assert [bench.breaker.admit() is not None for _ in range(5)] == [True, True, True, False, False]


def test_open_times_double_up_to_the_longest_and_are_jittered() -> None:
    bench = Bench(consecutive=1, open_base=1.0, open_growth=2.0, open_max=10.0, jitter=0.2)
    lengths = []
    for _ in range(6):
        bench.send(BAD)
        lengths.append(bench.open_for())
        bench.time += bench.open_for()
    assert lengths == pytest.approx([1, 2, 4, 8, 10, 10])
    assert bench.drawn == [(0.8, 1.2)] * 6


def test_a_thousand_failed_probes_are_no_overflow() -> None:
    bench = Bench(consecutive=1)
    for _ in range(3000):
        bench.send(BAD)
        bench.time += bench.open_for()
    assert bench.breaker.snapshot().opened == 3000


def test_a_flapping_backend_keeps_its_long_times_and_calm_gives_them_back() -> None:
    bench = Bench(consecutive=1, successes=1, forgive=30.0)
    for expected in (1.0, 2.0, 4.0):
        bench.send(BAD)
        assert bench.open_for() == pytest.approx(expected)
        bench.time += bench.open_for()
        bench.send(OK)
        bench.time += 5.0  # it works for five seconds only
    bench.time += 60.0
    bench.send(BAD)
    assert bench.open_for() == pytest.approx(2.0)  # three steps up, two while it was calm


def test_late_ends_of_what_was_sent_before_count_for_nothing() -> None:
    bench = Bench(consecutive=1, successes=1)
    late_success, late_failure = bench.breaker.admit(), bench.breaker.admit()
    bench.send(BAD)
    bench.time += 1.0
    probe = bench.breaker.admit()
    bench.breaker.record(late_success, OK)
    bench.breaker.record(late_failure, BAD)
    assert bench.breaker.state is BreakerState.HALF_OPEN
    bench.breaker.record(probe, OK)
    assert bench.breaker.state is BreakerState.CLOSED


def test_a_probe_that_says_nothing_frees_its_place() -> None:
    bench = Bench(consecutive=1, probes=1, successes=1)
    bench.send(BAD)
    bench.time += 1.0
    assert bench.send(NOTHING, NOTHING, OK) == [True, True, True]
    assert bench.breaker.state is BreakerState.CLOSED


def test_a_probe_that_nobody_reports_does_not_close_the_way_for_ever() -> None:
    bench = Bench(consecutive=1, probes=1, successes=1, probe_timeout=30.0)
    bench.send(BAD)
    bench.time += 1.0
    lost = bench.breaker.admit()
    bench.time += 29.9
    assert bench.breaker.admit() is None
    bench.time += 0.1
    assert bench.send(OK) == [True]
    assert bench.breaker.state is BreakerState.CLOSED
    bench.breaker.record(lost, BAD)
    assert bench.breaker.state is BreakerState.CLOSED


def test_closing_begins_with_an_empty_window() -> None:
    bench = Bench(consecutive=5, minimum=5, successes=1)
    bench.send(*[BAD] * 5)
    bench.time += 1.0
    bench.send(OK, BAD, BAD, BAD, BAD)
    assert bench.breaker.state is BreakerState.CLOSED
    assert bench.breaker.snapshot().failures == 4


HOUR, YEARS = 3600.0, 30 * 365 * 86400.0


@pytest.mark.parametrize("jump", [HOUR, YEARS])
def test_a_clock_that_jumps_ahead_lets_one_probe_through_and_forgets_the_window(jump: float) -> None:
    bench = Bench(consecutive=5, minimum=10, probes=1, successes=1)
    bench.send(*[BAD] * 4)
    bench.time += jump
    assert bench.breaker.snapshot().failures == 0 and bench.breaker.state is BreakerState.CLOSED
    bench.send(*[BAD] * 5)
    bench.time += jump
    assert [bench.breaker.admit() is not None for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("jump", [HOUR, YEARS])
def test_a_clock_that_jumps_back_neither_prolongs_what_is_open_nor_keeps_what_was_seen(jump: float) -> None:
    bench = Bench(consecutive=5, minimum=10, open_base=1.0, probes=1, successes=1, probe_timeout=30.0)
    bench.time += YEARS
    bench.send(*[BAD] * 5)
    bench.time -= jump
    assert bench.open_for() == pytest.approx(1.0)
    bench.time += 1.0
    lost = bench.breaker.admit()
    assert lost is not None
    bench.time -= jump
    assert bench.breaker.admit() is None
    bench.time += 30.0
    assert bench.send(OK) == [True] and bench.breaker.state is BreakerState.CLOSED
    bench.send(*[OK, BAD] * 4)
    bench.time -= jump
    assert bench.breaker.snapshot().failures == 4
    bench.time += 11.0
    assert bench.breaker.snapshot().failures == 0
    bench.send(*[BAD] * 5)
    assert bench.open_for() == pytest.approx(2.0), "no growth but that of its own trips"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, OK),
        (RpcError(Code.UNAVAILABLE), BAD),
        (ConnectionResetError(), BAD),
        (EOFError(), BAD),
        (OSError(113, "no route"), BAD),
        (TimeoutError(), BAD),
        (RpcError(Code.DEADLINE_EXCEEDED, ours=True), BAD),
        (RpcError(Code.DEADLINE_EXCEEDED), NOTHING),
        (RpcError(Code.RESOURCE_EXHAUSTED), NOTHING),
        (RpcError(Code.CANCELLED), NOTHING),
        (RpcError(Code.INTERNAL), NOTHING),
        (RpcError(Code.UNKNOWN), NOTHING),
        (RpcError(77), NOTHING),
        (ValueError(), NOTHING),
        (RpcError(Code.INVALID_ARGUMENT), OK),
        (RpcError(Code.NOT_FOUND), OK),
        (RpcError(Code.UNAUTHENTICATED), OK),
        (Refused(Code.UNAVAILABLE), NOTHING),
        (Refused(Code.DEADLINE_EXCEEDED), NOTHING),
    ],
)
def test_what_counts_as_a_failure(error: BaseException | None, verdict: Verdict) -> None:
    assert judge(error) is verdict
