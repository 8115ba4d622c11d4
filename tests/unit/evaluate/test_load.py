"""The closed loop: every request is sent once, by as many clients as asked for, and no error is lost."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from stillhouse.clients.inference import Answer, FakeInferenceClient
from stillhouse.errors import ServerError
from stillhouse.passes.evaluate.load import BLOCKS, closed_loop


class Crowd:
    """Makes fake clients and counts how many ask at the same time."""

    def __init__(self, pause: float = 0.0, error_at: int = 0, error: BaseException | None = None) -> None:
        self.clients: list[FakeInferenceClient] = []
        self.pause, self.error_at, self.error = pause, error_at, error
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0

    def connect(self) -> FakeInferenceClient:
        client = FakeInferenceClient(self.answer)
        with self.lock:
            self.clients.append(client)
        return client

    def answer(self, model: str, texts: Sequence[str]) -> Answer:
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)
            mine = self.total
        time.sleep(self.pause)
        with self.lock:
            self.now -= 1
        if self.error is not None and mine == self.error_at:
            raise self.error
        return Answer()


def ask(client: FakeInferenceClient, text: str) -> None:
    client.infer_texts("m", [text])


@pytest.mark.parametrize(("concurrency", "requests"), [(1, 50), (3, 50), (8, 101), (16, 7), (2, 1)])
def test_every_request_is_sent_once(concurrency: int, requests: int) -> None:
    crowd = Crowd()
    payloads = ["a", "b", "c"]
    result = closed_loop(crowd.connect, ask, payloads, concurrency=concurrency, requests=requests)

    assert len(crowd.clients) == concurrency
    asked = collections.Counter(texts[0] for client in crowd.clients for _, texts in client.requests)
    asked["a"] -= concurrency  # each client's first one, which is not measured
    assert asked == collections.Counter(payloads[n % 3] for n in range(requests))
    assert len(result.latencies) == requests
    assert (result.latencies > 0).all()
    assert len(result.blocks) == min(BLOCKS, requests)
    assert all(each > 0 for each in result.blocks)
    assert all(client.closed for client in crowd.clients)


def test_a_client_waits_for_its_answer() -> None:
    crowd = Crowd(pause=0.002)
    closed_loop(crowd.connect, ask, ["a"], concurrency=3, requests=60)
    assert crowd.most <= 3


def test_latencies_and_blocks_agree_with_the_servers_pace() -> None:
    """By how the figures relate, not by how fast this machine is."""
    crowd = Crowd(pause=0.002)
    result = closed_loop(crowd.connect, ask, ["a"], concurrency=2, requests=120)
    assert result.latencies.min() >= 0.002
    # Two clients: their latencies fill the time twice over, at most, for it begins before the first request.
    assert result.latencies.sum() <= 2 * result.seconds * (1 + 1e-9)
    # Six blocks of twenty answers each: their times add up to the whole.
    assert sum(20 / block for block in result.blocks) == pytest.approx(result.seconds, rel=1e-6)


@pytest.mark.parametrize("at", [1, 2, 40])
def test_the_first_error_ends_the_run_and_is_raised(at: int) -> None:
    problem = ServerError("the server refused", found="UNAVAILABLE")
    crowd = Crowd(error_at=at, error=problem)
    with pytest.raises(ServerError) as raised:
        closed_loop(crowd.connect, ask, ["a"], concurrency=4, requests=10_000)
    assert raised.value is problem
    assert crowd.total < 10_000
    assert all(client.closed for client in crowd.clients)


def test_a_bug_is_raised_as_it_is() -> None:
    crowd = Crowd(error_at=30, error=ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        closed_loop(crowd.connect, ask, ["a"], concurrency=2, requests=1000)


def test_a_client_that_cannot_connect_is_an_error_for_all() -> None:
    def connect() -> Any:
        raise ServerError("nobody listens")

    with pytest.raises(ServerError, match="nobody listens"):
        closed_loop(connect, ask, ["a"], concurrency=4, requests=100)


def test_one_of_many_that_cannot_connect_does_not_hang_the_others() -> None:
    crowd = Crowd()
    count = iter(range(100))

    def connect() -> Any:
        if next(count) == 2:
            raise ServerError("one too many")
        return crowd.connect()

    with pytest.raises(ServerError, match="one too many"):
        closed_loop(connect, ask, ["a"], concurrency=4, requests=100)


def test_progress_is_told_on_the_way() -> None:
    seen: list[int] = []
    closed_loop(Crowd().connect, ask, ["a"], concurrency=2, requests=200, progress=seen.append)
    assert sorted(seen) == [50, 100, 150, 200]


def test_an_interruption_stops_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(pause=0.001)
    real: Callable[..., None] = threading.Thread.join
    main = threading.current_thread()

    def join(self: threading.Thread, timeout: float | None = None) -> None:
        if threading.current_thread() is main and crowd.total > 0:
            raise KeyboardInterrupt
        real(self, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", join)
        with pytest.raises(KeyboardInterrupt):
            closed_loop(crowd.connect, ask, ["a"], concurrency=2, requests=1_000_000)
    for _ in range(1000):
        if len(crowd.clients) == 2 and all(client.closed for client in crowd.clients):
            break
        time.sleep(0.01)
    assert all(client.closed for client in crowd.clients)
    assert crowd.total < 1_000_000


def test_the_time_begins_before_the_first_request_also_where_the_caller_is_woken_late(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(pause=0.002)
    real: Callable[..., int] = threading.Barrier.wait
    main = threading.current_thread()

    def wait(self: threading.Barrier, timeout: float | None = None) -> int:
        found = real(self, timeout)
        if threading.current_thread() is main:
            time.sleep(0.1)
        return found

    monkeypatch.setattr(threading.Barrier, "wait", wait)
    result = closed_loop(crowd.connect, ask, ["a"], concurrency=2, requests=20)
    assert result.latencies.sum() <= 2 * result.seconds * (1 + 1e-9)


def test_latencies_are_of_the_requests_in_order() -> None:
    def slow(client: FakeInferenceClient, number: int) -> None:
        time.sleep(0.02 * number)
        client.infer_texts("m", [str(number)])

    result = closed_loop(Crowd().connect, slow, list(range(6)), concurrency=1, requests=6)
    # From below only: any of them may take longer where the machine is busy.
    assert all(latency >= 0.02 * number for number, latency in enumerate(result.latencies))
