"""The election: who may work, by its own clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.interface import Conflict, Unavailable
from stillhouse.clients.kube.kinds import LEASE
from stillhouse.reconcile.leader import LEASE_S, RENEW_DEADLINE_S, Leadership


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def candidate(kube: FakeKube, name: str, clock: Clock) -> Leadership:
    return Leadership(kube, "ns", "lease", name, gained=lambda: None, lost=lambda: None, clock=clock)  # type: ignore[arg-type]


def attempt(one: Leadership) -> bool:
    async def story() -> bool:
        try:
            return await one._try()
        except Unavailable:
            return False

    return asyncio.run(story())


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


def holder(kube: FakeKube) -> Any:
    return asyncio.run(kube.get(LEASE, "ns", "lease"))["spec"]  # type: ignore[index]


def test_the_first_holds_it_and_the_second_waits_for_its_end(kube: FakeKube) -> None:
    clock = Clock()
    one, two = candidate(kube, "one", clock), candidate(kube, "two", clock)
    assert attempt(one)
    assert not attempt(two)
    clock.now += LEASE_S - 1
    assert attempt(one)
    assert not attempt(two), "it has seen a change: its wait begins anew"
    clock.now += LEASE_S + 1
    assert attempt(two)
    assert holder(kube)["holderIdentity"] == "two"
    assert holder(kube)["leaseTransitions"] == 1
    assert not attempt(one)


def test_a_clock_that_is_wrong_on_the_other_node_decides_nothing(kube: FakeKube) -> None:
    clock = Clock()
    one, two = candidate(kube, "one", clock), candidate(kube, "two", clock)
    assert attempt(one)
    live = asyncio.run(kube.get(LEASE, "ns", "lease"))
    assert live is not None
    live["spec"]["renewTime"] = "1970-01-01T00:00:00.000000Z"
    kube.set(live)
    assert not attempt(two)


def test_released_it_is_free_at_once(kube: FakeKube) -> None:
    clock = Clock()
    one, two = candidate(kube, "one", clock), candidate(kube, "two", clock)
    assert attempt(one)
    one.leads = True
    asyncio.run(one.release())
    assert holder(kube)["holderIdentity"] == ""
    assert attempt(two)
    asyncio.run(one.release())
    assert holder(kube)["holderIdentity"] == "two", "nobody releases what another holds"


def test_two_that_write_at_once_do_not_both_win(kube: FakeKube) -> None:
    clock = Clock()
    one, two = candidate(kube, "one", clock), candidate(kube, "two", clock)
    assert attempt(one)
    assert not attempt(two)

    async def story() -> bool:
        live = await kube.get(LEASE, "ns", "lease")
        assert live is not None
        live["spec"]["holderIdentity"] = "three"
        kube.set(live)
        with pytest.raises(Conflict):
            await two._write({**live, "metadata": {**live["metadata"], "resourceVersion": "1"}}, {"holderIdentity": "two"})
        return True

    assert asyncio.run(story())
    assert holder(kube)["holderIdentity"] == "three"


def test_who_cannot_renew_is_overdue_before_another_may_lead(kube: FakeKube) -> None:
    clock = Clock()
    one = candidate(kube, "one", clock)
    events: list[str] = []
    one._gained = lambda: events.append("gained")
    one._lost = lambda: events.append("lost")

    async def story() -> None:
        task = asyncio.create_task(one.run())
        while not one.leads:
            await asyncio.sleep(0.01)

        def refuse(*_: Any) -> None:
            raise Unavailable("the API server does not answer")

        kube.before = refuse
        assert not one.overdue
        clock.now += RENEW_DEADLINE_S + 0.1
        assert one.overdue
        await asyncio.wait_for(task, 20)

    asyncio.run(story())
    assert events == ["gained", "lost"]
    assert RENEW_DEADLINE_S < LEASE_S
