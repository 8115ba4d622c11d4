"""From an old pod to a new one: what the documented client loses on the way, by names alone as behind a headless Service."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.kube.process import free_port
from tests.support.names import serving_names
from tests.support.triton import build

from stillhouse.clients.triton import TritonClient
from stillhouse.errors import StillhouseError
from stillhouse.resources.deployment import DRAIN_S
from stillhouse.triton.handle import ServerHandle
from stillhouse.triton.server import launch_ready


@contextmanager
def pod(folder: Path, cache: Path, host: str, port: int) -> Iterator[ServerHandle]:
    """A server as in a pod of that address: all pods have one port, and another address each."""
    site = build(folder, cache, host=host, grpc_port=port)
    handle = launch_ready(site.options, port)
    try:
        yield handle
    finally:
        handle.stop(2.0)


@pytest.mark.timeout(240)
def test_clients_move_to_a_new_pod_and_lose_nothing(tmp_path: Path, cache: Path) -> None:
    """The worst moment: the old pod leaves right after the clients have asked for its address; gRPC asks again after 30 s."""
    port = free_port()
    failures: list[str] = []
    answered: Counter[bool] = Counter()
    stop, moved = threading.Event(), threading.Event()
    with (
        pod(tmp_path / "old", cache, "127.0.0.2", port) as old,
        pod(tmp_path / "new", cache, "127.0.0.3", port) as new,
        serving_names("127.0.0.2") as names,
    ):

        def load() -> None:
            with TritonClient(f"dns://127.0.0.1:{names.port}/models.test:{port}", timeout_s=20.0) as client:
                while not stop.is_set():
                    try:
                        client.infer_texts("tiny", ["a file"])
                        answered[moved.is_set()] += 1
                    except StillhouseError as error:
                        failures.append(str(error))
                    stop.wait(0.02)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        names.addresses = ["127.0.0.3"]  # the new one is ready, the old one is told to end: it leaves the Service
        time.sleep(DRAIN_S)  # preStop
        assert old.stop(45.0)
        moved.set()
        time.sleep(3)
        stop.set()
        for thread in threads:
            thread.join(30)
        with TritonClient(new.address) as client:
            assert client.statistics("tiny").requests_ok > 100
    assert failures == []
    assert answered[False] > 100
    assert answered[True] > 20
