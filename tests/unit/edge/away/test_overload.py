"""Admission: what is let in, what waits and how long, what is refused at once; and limits that follow latency."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.support.virtual_time import now, run

from stillhouse.edge.away.overload import Admission, AdmissionPolicy, FixedLimit, GradientLimit
from stillhouse.edge.status import Code, RpcError


def door(limit: int = 1, **policy) -> Admission:
    return Admission(FixedLimit(limit), AdmissionPolicy(**policy))


async def fails(admission: Admission, **how) -> float:
    """Give how long a refusal took."""
    start = now()
    with pytest.raises(RpcError) as caught:
        await admission.enter(**how)
    assert caught.value.code == Code.RESOURCE_EXHAUSTED
    assert caught.value.pushback == "-1"
    return now() - start


def test_up_to_the_limit_everybody_enters_at_once() -> None:
    async def main() -> None:
        one = door(3)
        for _ in range(3):
            await one.enter()
        assert not one.try_enter()
        assert one.in_flight == 3
        one.leave()
        assert one.try_enter()

    run(main())


def test_who_waits_is_let_in_by_turns() -> None:
    async def main() -> None:
        one, order = door(1), []

        async def wait(name: int) -> None:
            await one.enter()
            order.append(name)
            one.leave()

        await one.enter()
        tasks = [asyncio.create_task(wait(each)) for each in range(5)]
        await asyncio.sleep(0.01)
        assert not one.try_enter()
        one.leave()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]
        assert (one.in_flight, one.waiting) == (0, 0)

    run(main())


def test_nobody_overtakes_those_that_wait() -> None:
    async def main() -> None:
        one = door(1)
        await one.enter()
        waiter = asyncio.create_task(one.enter())
        await asyncio.sleep(0)
        one.leave()  # the place is the waiter's, before it has run
        assert not one.try_enter()
        await waiter
        assert one.in_flight == 1

    run(main())


def test_beyond_the_number_that_may_wait_refusal_is_immediate() -> None:
    async def main() -> None:
        one = door(1, waiting=2)
        await one.enter()
        waiters = [asyncio.create_task(one.enter()) for _ in range(2)]
        await asyncio.sleep(0)
        assert await fails(one) == 0.0
        assert one.refused == 1
        for each in waiters:
            each.cancel()

    run(main())


def test_a_burst_may_wait_a_standing_queue_may_not() -> None:
    async def main() -> None:
        one = door(1, waiting=1000, target=0.005, interval=0.1)
        await one.enter()
        waits = []

        async def wait() -> None:
            waits.append((now(), await fails(one)))

        start = now()
        tasks = []
        for _ in range(40):
            tasks.append(asyncio.create_task(wait()))
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        by_arrival = sorted(waits)
        assert [waited for at, waited in by_arrival if at - start < 0.095] == pytest.approx([0.1] * 10)
        late = [waited for at, waited in by_arrival if 0.105 < at - start < 0.195]
        assert late == pytest.approx([0.005] * len(late))
        assert len(late) == 9

    run(main())


def test_an_overload_lasts_though_batches_empty_the_queue() -> None:
    """Eight end together every 20 ms, as those of a batch do; 2.5 arrive meanwhile for each that ends."""

    async def main() -> list[float]:
        one, waits = door(16, waiting=64, target=0.005, interval=0.1), list[float]()

        async def request() -> None:
            start = now()
            try:
                await one.enter()
            except RpcError:
                waits.append(now() - start)

        async def batches() -> None:
            while True:
                await asyncio.sleep(0.02)
                for _ in range(min(8, one.in_flight)):
                    one.leave()

        server, tasks = asyncio.create_task(batches()), []
        for _ in range(2000):
            tasks.append(asyncio.create_task(request()))
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        server.cancel()
        return waits

    waits = run(main())
    assert len(waits) > 1000
    late = [each for each in waits if each > 0.006]
    assert len(late) <= 64  # those of the first moment, when it may have been a burst


def test_waiting_ends_at_the_deadline() -> None:
    async def main() -> None:
        one = door(1, interval=0.1)
        await one.enter()
        assert await fails(one, deadline=now() + 0.03) == pytest.approx(0.03)
        assert await fails(one, deadline=now()) == 0.0

    run(main())


def test_whoever_goes_away_while_waiting_leaves_no_trace() -> None:
    async def main() -> None:
        one = door(1)
        await one.enter()
        for _ in range(3):
            waiter = asyncio.create_task(one.enter())
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait([waiter])
        assert one.waiting == 0
        one.leave()
        assert one.in_flight == 0
        assert one.try_enter()

    run(main())


@pytest.mark.parametrize("ends", ["leave", "timeout"])
def test_who_is_cancelled_in_the_moment_of_its_turn_gives_the_place_back(ends: str) -> None:
    async def main() -> None:
        one = door(1, interval=0.1)
        await one.enter()
        waiter = asyncio.create_task(one.enter())
        await asyncio.sleep(0)
        if ends == "leave":
            one.leave()
        else:
            one._give_up(next(iter(one._waiting)))
        waiter.cancel()
        await asyncio.wait([waiter])
        assert waiter.cancelled()
        assert one.waiting == 0
        assert one.in_flight == (0 if ends == "leave" else 1)

    run(main())


def test_those_that_gave_up_are_not_kept_while_nothing_ends() -> None:
    async def main() -> None:
        one = door(1, waiting=10)
        await one.enter()
        for _ in range(200):
            await fails(one)
        assert len(one._waiting) == 0
        assert one.refused == 200

    run(main())


class Server:
    """Serves `cores` requests at once, `seconds` each (exponential), and keeps the others waiting for as long as it takes."""

    def __init__(self, cores: int, seconds: float, seed: int) -> None:
        self.cores = asyncio.Semaphore(cores)
        self.seconds = seconds
        self.chance = random.Random(seed)

    async def serve(self) -> None:
        async with self.cores:
            await asyncio.sleep(self.seconds * (0.8 + 0.4 * self.chance.random()))


async def load(admission: Admission, server: Server, rate: float, seconds: float, seed: int = 1) -> tuple[int, int, list[float]]:
    """Send requests as a Poisson process; give how many were answered and refused, and the times of those answered."""
    chance = random.Random(seed)
    took: list[float] = []
    refused = 0

    async def request() -> None:
        nonlocal refused
        try:
            await admission.enter()
        except RpcError:
            refused += 1
            return
        start = now()
        await server.serve()
        took.append(now() - start)
        admission.leave(now() - start)

    tasks = set()
    end = now() + seconds
    while now() < end:
        tasks.add(asyncio.create_task(request()))
        await asyncio.sleep(chance.expovariate(rate))
    await asyncio.gather(*tasks)
    return len(took), refused, took


@pytest.mark.parametrize("seed", [1, 2])
def test_at_five_times_the_load_as_much_is_answered_as_at_the_peak(seed: int) -> None:
    """Eight places of 10 ms: 800 a second."""

    async def main() -> tuple[int, int, list[float]]:
        return await load(door(10), Server(8, 0.01, seed), rate=4000, seconds=1.5)

    answered, refused, took = run(main())
    assert answered >= 0.95 * 800 * 1.5
    assert refused > 4 * answered * 0.8
    assert max(took) < 0.05


@pytest.mark.parametrize(("initial", "seed"), [(4, 1), (20, 2), (500, 3)])
def test_the_gradient_finds_the_capacity_and_keeps_it_while_the_overload_lasts(initial: int, seed: int) -> None:
    """Eight places of 10 ms, three times the load, 12 s: neither starved nor grown without end."""

    async def main() -> tuple[list[int], int, list[float]]:
        limit = GradientLimit(initial=initial)
        one, server = Admission(limit), Server(8, 0.01, seed)
        await load(one, server, rate=2400, seconds=4, seed=seed)  # to settle
        limits, answered, took = [], 0, []
        for each in range(2):
            got, _, times = await load(one, server, rate=2400, seconds=4, seed=seed + each)
            limits.append(limit.value)
            answered += got
            took += times
        return limits, answered, took

    limits, answered, took = run(main())
    assert all(8 <= each <= 40 for each in limits), limits
    assert answered >= 0.9 * 800 * 8
    assert sorted(took)[len(took) // 2] < 0.04


def test_the_gradient_follows_a_server_that_becomes_slower() -> None:
    async def main() -> tuple[int, int]:
        limit = GradientLimit()
        one, server = Admission(limit), Server(8, 0.01, 1)
        await load(one, server, rate=1600, seconds=3)
        before = limit.value
        server.seconds = 0.05
        await load(one, server, rate=400, seconds=15)
        return before, limit.value

    before, after = run(main())
    assert 8 <= before <= 40
    assert 8 <= after <= 40


def measured(**how) -> GradientLimit:
    """Give a limit that knows that 10 ms are usual."""
    limit = GradientLimit(**how)
    for _ in range(54):
        assert limit.value == 4
        limit.learn(0.01, 4)
    return limit


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    limit = measured(initial=20)
    for _ in range(1000):
        limit.learn(0.01, 3)
    assert limit.value == 20


def test_the_limit_stays_within_its_bounds() -> None:
    limit = measured(initial=20, most=30)
    for _ in range(5000):
        limit.learn(0.01, 30)
    assert limit.value == 30
    for _ in range(200):
        limit.learn(10.0, 30)
    assert limit.value == 4


def test_what_is_usual_is_measured_again_and_then_the_limit_is_as_before() -> None:
    limit = measured(initial=20, every=1000)
    for _ in range(999):
        limit.learn(0.01, 3)
    assert limit.value == 20
    limit.learn(0.01, 3)
    assert limit.value == 4
    for _ in range(500):
        limit.learn(0.5, 20)  # those that are still there from before say nothing
    for _ in range(54):
        assert limit.value == 4
        limit.learn(0.02, 2)
    assert limit.value == 20
