"""Retries and hedging: what is tried again, when, how often, and what becomes of the loser."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest
from tests.support.virtual_time import now, run

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.away.retries import Attempt, HedgePolicy, Retrier, RetryBudget, RetryPolicy, pushback_seconds
from stillhouse.edge.status import Code, Refused, RpcError

AWAY = RpcError(Code.UNAVAILABLE, "away")


class Backend:
    """Ends its attempts as it is told: an error is raised, a number of seconds is slept, anything else is the answer."""

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.at: list[float] = []
        self.numbers: list[int] = []
        self.cancelled: list[int] = []
        self.commit_first = False
        self.commits: list[tuple[int, bool]] = []

    async def __call__(self, attempt: Attempt) -> object:
        self.at.append(now())
        self.numbers.append(attempt.number)
        step = self.script.pop(0)
        try:
            for each in step if isinstance(step, tuple) else (step,):
                if each == "commit":
                    self.commits.append((attempt.number, attempt.commit()))
                elif isinstance(each, float):
                    await asyncio.sleep(each)
                elif isinstance(each, Exception):
                    raise each
                else:
                    return each
        except asyncio.CancelledError:
            self.cancelled.append(attempt.number)
            raise
        raise AssertionError("a step without an end")


def retrier(*, hedge_after: float | None = None, budget: RetryBudget | None = None, part: float = 0.5, **policy) -> Retrier:
    """Make one whose back-off is `part` of its bound."""
    latencies = None
    if hedge_after is not None:
        latencies = Quantiles(clock=now, stale=1e9, memory=1e9)
        for _ in range(100):
            latencies.add(hedge_after)
    return Retrier(
        RetryPolicy(**policy),
        budget=budget or RetryBudget(clock=now),
        hedge=None if hedge_after is None else HedgePolicy(),
        latencies=latencies,
        clock=now,
        uniform=lambda low, high: low + part * (high - low),
    )


def play(backend: Backend, make: Callable[[], Retrier], **how) -> tuple[object, Retrier]:
    """Run one call; give its answer or its error."""

    async def main() -> tuple[object, Retrier]:
        one = make()
        try:
            answer: object = await one.run(backend, **how)
        except RpcError as error:
            answer = error
        except OSError as error:
            answer = error
        await one.drain()
        return answer, one

    return run(main())


def test_unavailable_is_tried_again_with_growing_waits() -> None:
    backend = Backend(AWAY, AWAY, AWAY, "answer")
    answer, one = play(backend, lambda: retrier(attempts=4, base=0.1, growth=2.0, cap=0.3))
    assert answer == "answer"
    assert backend.numbers == [1, 2, 3, 4]
    waits = [later - earlier for earlier, later in zip(backend.at, backend.at[1:], strict=False)]
    assert waits == pytest.approx([0.05, 0.1, 0.15])  # half of 0.1, 0.2, and 0.3 instead of 0.4
    assert one.retries == 3


def test_full_jitter_draws_from_zero() -> None:
    drawn = []

    async def main() -> None:
        one = retrier(base=0.1)
        one._uniform = lambda low, high: drawn.append((low, high)) or low
        await one.run(Backend(AWAY, AWAY, "answer"))

    run(main())
    assert drawn == [(0.0, 0.1), (0.0, 0.2)]


def test_after_the_last_attempt_its_error_is_raised() -> None:
    last = RpcError(Code.UNAVAILABLE, "the last one")
    answer, one = play(Backend(AWAY, AWAY, last), lambda: retrier(attempts=3))
    assert answer is last
    assert one.retries == 2


@pytest.mark.parametrize("code", [code for code in Code if code not in (Code.OK, Code.UNAVAILABLE)])
def test_nothing_else_is_tried_again(code: Code) -> None:
    backend = Backend(RpcError(code))
    answer, _ = play(backend, retrier)
    assert isinstance(answer, RpcError)
    assert answer.code == code
    assert backend.numbers == [1]


def test_a_broken_connection_is_unavailable() -> None:
    answer, _ = play(Backend(ConnectionResetError(), "answer"), retrier)
    assert answer == "answer"


def test_what_the_gateway_refused_is_not_tried_again() -> None:
    backend = Backend(Refused(Code.UNAVAILABLE, "the breaker is open"))
    play(backend, retrier)
    assert backend.numbers == [1]


def test_once_bytes_were_passed_on_there_is_no_other_attempt() -> None:
    backend = Backend(("commit", AWAY))
    answer, _ = play(backend, retrier)
    assert answer is AWAY
    assert backend.commits == [(1, True)]
    assert backend.numbers == [1]


def test_no_wait_reaches_beyond_the_deadline() -> None:
    backend = Backend(AWAY, AWAY, "answer")

    async def main() -> float:
        one = retrier(base=0.2)
        with pytest.raises(RpcError):
            await one.run(backend, deadline=now() + 0.2)
        return now()

    end = run(main())
    assert backend.numbers == [1, 2]  # after 0.1 s the second; 0.2 s more would be too late, and nobody waits for that
    assert end == pytest.approx(1000.1)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((None, None), ("0", 0.0), ("250", 0.25), ("2147483647", 2147483.647)),
        *((wrong, -1) for wrong in ("-1", "", "x", "1.5", "01", "2147483648", " 5", "+5", "9" * 5000, "٣")),
    ],
)
def test_pushback_is_read_as_a6_says(value: str | None, seconds: float | None) -> None:
    assert pushback_seconds(value) == seconds


def test_pushback_says_when_and_the_back_off_begins_anew_after_it() -> None:
    backend = Backend(AWAY, RpcError(Code.UNAVAILABLE, pushback="700"), AWAY, "answer")
    play(backend, lambda: retrier(attempts=4, base=0.1))
    waits = [later - earlier for earlier, later in zip(backend.at, backend.at[1:], strict=False)]
    assert waits == pytest.approx([0.05, 0.7, 0.05])


def test_pushback_can_forbid() -> None:
    backend = Backend(RpcError(Code.UNAVAILABLE, pushback="-1"))
    play(backend, retrier)
    assert backend.numbers == [1]


class TestBudget:
    def test_begins_with_its_reserve(self) -> None:
        budget = RetryBudget(share=0.2, minimum=1.0, ttl=10.0, clock=lambda: 0.0)
        assert [budget.withdraw() for _ in range(11)] == [True] * 10 + [False]

    def test_requests_pay_their_share(self) -> None:
        budget = RetryBudget(share=0.2, minimum=0.0, clock=lambda: 0.0)
        paid = 0
        for _ in range(1000):
            budget.deposit()
            paid += budget.withdraw()
        assert paid == pytest.approx(200, abs=1)

    def test_the_reserve_comes_back_at_its_rate_while_nothing_is_sent(self) -> None:
        time = [0.0]
        budget = RetryBudget(share=0.0, minimum=2.0, ttl=10.0, clock=lambda: time[0])
        while budget.withdraw():
            pass
        time[0] += 0.6
        assert 1.0 < budget.balance < 1.2  # 2 a second, slower as it fills
        time[0] += 100.0
        assert budget.balance == pytest.approx(20.0, abs=0.01)

    def test_what_was_paid_in_fades(self) -> None:
        time = [0.0]
        budget = RetryBudget(share=1.0, minimum=0.0, ttl=10.0, clock=lambda: time[0])
        for _ in range(100):
            budget.deposit()
        time[0] += 10.0
        assert budget.balance == pytest.approx(100 / math.e)

    def test_in_an_outage_retries_are_a_share_of_the_requests(self) -> None:
        """1000 requests in ten seconds, all of them fail: without a budget there would be 2000 retries."""

        async def main() -> Retrier:
            one = retrier(budget=RetryBudget(share=0.2, minimum=1.0, ttl=10.0, clock=now), attempts=3, base=0.01)

            async def fails(attempt: Attempt) -> None:
                raise AWAY

            async def call() -> None:
                with pytest.raises(RpcError):
                    await one.run(fails)

            tasks = []
            for _ in range(1000):
                tasks.append(asyncio.create_task(call()))
                await asyncio.sleep(0.01)
            await asyncio.gather(*tasks)
            return one

        one = run(main())
        assert 200 <= one.retries <= 200 + 20  # a fifth, and the reserve with what it gains in ten seconds
        assert one.denied > 700


class TestHedging:
    def test_a_quick_answer_needs_no_second_attempt(self) -> None:
        backend = Backend((0.05, "first"))
        answer, one = play(backend, lambda: retrier(hedge_after=0.1))
        assert (answer, backend.numbers, one.hedges) == ("first", [1], 0)

    def test_after_the_usual_time_a_second_one_is_sent_and_the_loser_cancelled(self) -> None:
        backend = Backend((5.0, "first"), (0.02, "second"))
        answer, one = play(backend, lambda: retrier(hedge_after=0.1))
        assert answer == "second"
        assert backend.at[1] - backend.at[0] == pytest.approx(0.1, rel=0.05)
        assert backend.cancelled == [1]
        assert (one.hedges, one.hedge_wins, one.retries) == (1, 1, 0)

    def test_the_first_may_still_win(self) -> None:
        backend = Backend((0.15, "first"), (0.2, "second"))
        answer, one = play(backend, lambda: retrier(hedge_after=0.1))
        assert (answer, backend.cancelled, one.hedge_wins) == ("first", [2], 0)

    def test_there_is_one_hedge_at_most(self) -> None:
        backend = Backend((5.0, "first"), (9.0, "second"))
        answer, _ = play(backend, lambda: retrier(hedge_after=0.1, attempts=5))
        assert (answer, backend.numbers) == ("first", [1, 2])

    def test_without_budget_there_is_none(self) -> None:
        backend = Backend((5.0, "first"))
        answer, one = play(backend, lambda: retrier(hedge_after=0.1, budget=RetryBudget(share=0, minimum=0, clock=now)))
        assert (answer, backend.numbers, one.denied) == ("first", [1], 1)

    def test_without_measurements_there_is_none(self) -> None:
        backend = Backend((5.0, "first"))

        def make() -> Retrier:
            return Retrier(hedge=HedgePolicy(), latencies=Quantiles(clock=now), budget=RetryBudget(clock=now), clock=now)

        answer, _ = play(backend, make)
        assert (answer, backend.numbers) == ("first", [1])

    def test_one_that_fails_leaves_the_other_running(self) -> None:
        backend = Backend((0.15, AWAY), (0.2, "second"))
        answer, one = play(backend, lambda: retrier(hedge_after=0.1))
        assert (answer, one.hedge_wins) == ("second", 1)

    def test_a_final_error_ends_both(self) -> None:
        wrong = RpcError(Code.INVALID_ARGUMENT)
        backend = Backend((5.0, "first"), (0.02, wrong))
        answer, _ = play(backend, lambda: retrier(hedge_after=0.1))
        assert answer is wrong
        assert backend.cancelled == [1]

    def test_both_count_as_attempts(self) -> None:
        backend = Backend((0.15, AWAY), (0.2, AWAY), "third")
        answer, one = play(backend, lambda: retrier(hedge_after=0.1, attempts=3))
        assert (answer, backend.numbers, one.retries) == ("third", [1, 2, 3], 1)
        backend = Backend((0.15, AWAY), (0.2, AWAY))
        answer, _ = play(backend, lambda: retrier(hedge_after=0.1, attempts=2))
        assert answer is AWAY

    def test_whoever_passes_on_bytes_first_is_the_only_one(self) -> None:
        backend = Backend((0.3, "commit", "first"), (0.05, "commit", 1.0, "second"))
        answer, _ = play(backend, lambda: retrier(hedge_after=0.1))
        assert answer == "second"
        assert backend.commits == [(2, True)]
        assert backend.cancelled == [1]

    def test_no_hedge_once_bytes_were_passed_on(self) -> None:
        backend = Backend((0.01, "commit", 5.0, "first"))
        answer, one = play(backend, lambda: retrier(hedge_after=0.1))
        assert (answer, one.hedges) == ("first", 0)

    def test_who_passed_on_bytes_and_fails_ends_the_call(self) -> None:
        backend = Backend((5.0, "first"), (0.02, "commit", 0.01, AWAY))
        answer, one = play(backend, lambda: retrier(hedge_after=0.1))
        assert answer is AWAY
        assert (one.retries, backend.cancelled) == (0, [1])

    def test_a_loser_that_does_not_obey_does_not_hold_up_the_answer(self) -> None:
        seen = []

        async def stubborn(attempt: Attempt) -> str:
            if attempt.number == 1:
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    seen.append(attempt.commit())  # too late
                    await asyncio.sleep(10)
                    raise RuntimeError("too late as well") from None
            attempt.commit()
            return "second"

        async def main() -> tuple[str, float]:
            one = retrier(hedge_after=0.1)
            answer = await one.run(stubborn)
            at = now()
            await one.drain()
            return answer, at

        answer, at = run(main())
        assert answer == "second"
        assert at == pytest.approx(1000.1, rel=0.001)
        assert seen == [False]

    def test_a_caller_that_goes_away_takes_both_with_it(self) -> None:
        backend = Backend((9.0, "first"), (9.0, "second"))

        async def main() -> None:
            one = retrier(hedge_after=0.1)
            call = asyncio.create_task(one.run(backend))
            await asyncio.sleep(1)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            await one.drain()

        run(main())
        assert sorted(backend.cancelled) == [1, 2]
