"""What is read of a server's metrics, held against a real one."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.kube.process import free_port
from tests.support.triton import Site, at_rest, build, running

from stillhouse.clients.triton import TritonClient
from stillhouse.scaling.counters import Sample, read
from stillhouse.scaling.signals import signals
from stillhouse.scaling.wanted import Room, wanted
from stillhouse.triton.server import ServerHandle
from stillhouse.triton.settings import ServeSettings

CLIENTS, EACH = 8, 40


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[tuple[ServerHandle, int]]:
    """A server that counts: (it, the port of its metrics). A response cache too: it brings counters of its own."""
    port = free_port()
    folder = tmp_path_factory.mktemp("counted")
    site: Site = build(folder, cache, cpus=1, serve=ServeSettings(response_cache=True), metrics=True, metrics_port=port)
    with running(site) as handle:
        yield handle, port


def look(port: int) -> Sample:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return read(answer.read().decode(), "tiny", time.monotonic())


def rested(port: int) -> Sample:
    """Return the counters once they rest, as of the first look."""
    first = look(port).at
    return at_rest(lambda: replace(look(port), at=first))


def test_a_real_server_says_all_that_is_read(counted: tuple[ServerHandle, int]) -> None:
    handle, port = counted
    before = replace(rested(port), at=time.monotonic())

    def ask(number: int) -> None:
        with TritonClient(handle.address) as client:
            for turn in range(EACH):
                client.infer_texts("tiny", [f"a b {number} {turn}"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    after = rested(port)
    assert after.ended - before.ended == CLIENTS * EACH
    assert after.computed - before.computed == CLIENTS * EACH
    assert 0 < after.executions - before.executions <= CLIENTS * EACH
    assert after.compute_s > before.compute_s
    assert after.queue_s > before.queue_s
    found = signals([[before, after]], 1.0, after.at)
    assert found is not None
    assert found.service_s is not None
    # One instance cannot have worked longer than it took: a batch's time is not counted for each of its requests, which would
    # make it several times as long. The estimate is a mean over batches, so a little above is within what it can tell.
    assert 0 < found.service_s * CLIENTS * EACH <= (after.at - before.at) * 1.5
    number = wanted(found, Room(1.0))
    assert number is not None
    assert number > 0

    # What the cache answers costs nothing, and is no less an arrival.
    with TritonClient(handle.address) as client:
        for _ in range(20):
            client.infer_texts("tiny", ["a b 0 0"])
    again = rested(port)
    assert again.ended - after.ended == 20
    assert again.computed - after.computed < 20
