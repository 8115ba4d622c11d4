"""Who is asked next, and who is left alone: plain arithmetic on a fake clock."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Coroutine
from typing import Any

import pytest

from stillhouse.edge.route.pool import Outliers, Pool
from stillhouse.edge.status import Code, Metadata, Reply, RpcError


class Far:
    """A backend that is told how to answer."""

    def __init__(self, address: str) -> None:
        self.address, self.in_flight, self.calls, self.closed = address, 0, 0, False
        self.error: RpcError | None = None

    async def unary(self, method: str, message: bytes, *, metadata: Metadata = (), told_s: float | None = None) -> Reply:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Reply(self.address.encode())

    def leave(self) -> None:
        self.closed = True

    async def close(self) -> None:
        raise AssertionError("what is under way would end")


class Stage:
    def __init__(self, addresses: dict[str, float], outliers: Outliers | None = None) -> None:
        self.now = 1000.0
        self.far: dict[str, Far] = {}
        self.pool = Pool(self.dial, outliers, clock=lambda: self.now)
        self.pool.update(addresses)

    def dial(self, address: str) -> Far:
        self.far[address] = Far(address)
        return self.far[address]

    def ask(self, times: int = 1) -> collections.Counter[str]:
        found = collections.Counter[str]()
        for _ in range(times):
            try:
                found[run(self.pool.unary("/m", b"")).message.decode()] += 1
            except RpcError as error:
                found[error.code.name] += 1
        return found


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_equals_take_turns() -> None:
    assert Stage({"a": 1.0, "b": 1.0, "c": 1.0}).ask(300) == {"a": 100, "b": 100, "c": 100}


def test_the_fewest_in_flight_for_the_weight() -> None:
    stage = Stage({"a": 1.0, "b": 3.0})
    stage.far["a"].in_flight, stage.far["b"].in_flight = 1, 4
    assert stage.pool.pick().address == "b"  # 5/3 is less than 2/1
    stage.far["b"].in_flight = 6
    assert stage.pool.pick().address == "a"


def test_a_weight_of_nothing_takes_nothing() -> None:
    stage = Stage({"a": 1.0, "b": 0.0})
    assert stage.ask(10) == {"a": 10}


def test_nobody_there_is_unavailable() -> None:
    assert Stage({}).ask() == {"UNAVAILABLE": 1}


def test_who_fails_in_a_row_is_left_alone_and_comes_back() -> None:
    stage = Stage({"a": 1.0, "b": 1.0}, Outliers(failures=3, eject_s=5.0))
    stage.far["a"].error = RpcError(Code.UNAVAILABLE, "gone")
    assert stage.ask(6) == {"b": 6}
    assert stage.far["a"].calls == 3
    assert stage.ask(10) == {"b": 10}
    assert stage.far["a"].calls == 3
    stage.now += 5.1
    stage.ask(2)
    assert stage.far["a"].calls > 3, "it is tried again"
    stage.far["a"].error = None
    assert stage.ask(2) == {"a": 1, "b": 1}


def test_whoever_fails_again_is_left_alone_for_longer() -> None:
    stage = Stage({"a": 1.0, "b": 1.0}, Outliers(failures=1, eject_s=5.0))
    stage.far["a"].error = RpcError(Code.UNAVAILABLE)
    times = []
    for _ in range(3):
        before = stage.far["a"].calls
        while stage.far["a"].calls == before:
            stage.ask()
            stage.now += 0.5
        times.append(stage.now)
    assert times[2] - times[1] > times[1] - times[0] >= 5.0


def test_half_of_them_at_most_are_left_alone() -> None:
    stage = Stage(dict.fromkeys("abcd", 1.0), Outliers(failures=1, eject_s=60.0, most_ejected=0.5))
    for each in stage.far.values():
        each.error = RpcError(Code.UNAVAILABLE)
    stage.ask(100)
    assert sum(each.ejected_until > stage.now for each in stage.pool.backends) == 2


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED])
def test_what_is_not_the_backends_fault_speaks_not_against_it(code: Code) -> None:
    stage = Stage({"a": 1.0, "b": 1.0}, Outliers(failures=1))
    stage.far["a"].error = RpcError(code)
    assert stage.ask(20) == {"b": 10, code.name: 10}


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.NOT_FOUND])
def test_who_is_not_available_is_not_the_last_word(code: Code) -> None:
    stage = Stage({"a": 1.0, "b": 1.0}, Outliers(failures=1000))
    stage.far["a"].error = RpcError(code, "refused")
    assert stage.ask(20) == {"b": 20}
    stage.far["b"].error = RpcError(code, "refused")
    before = stage.far["a"].calls + stage.far["b"].calls
    assert stage.ask() == {code.name: 1}
    assert stage.far["a"].calls + stage.far["b"].calls == before + 2, "each of them once"


def test_retries_have_a_budget_and_what_no_server_began_costs_nothing_of_it() -> None:
    stage = Stage({"a": 1.0, "b": 1.0}, Outliers(failures=10_000))
    for each in stage.far.values():
        each.error = RpcError(Code.UNAVAILABLE)
    stage.ask(1000)
    calls = sum(each.calls for each in stage.far.values())
    assert 1000 + 100 <= calls <= 1000 + 0.2 * 1000 + 100 + 1, "a fifth of the requests, and ten a second of ten"
    for each in stage.far.values():
        each.error = RpcError(Code.UNAVAILABLE, unprocessed=True)
    before = calls
    stage.ask(100)
    assert sum(each.calls for each in stage.far.values()) == before + 200


def test_an_update_keeps_who_stays_and_closes_who_goes() -> None:
    stage = Stage({"a": 1.0, "b": 1.0})
    kept, gone = stage.far["a"], stage.far["b"]
    stage.pool.update({"a": 2.0, "c": 1.0})
    assert stage.far["a"] is kept and not kept.closed and gone.closed
    assert {each.address: each.weight for each in stage.pool.backends} == {"a": 2.0, "c": 1.0}
