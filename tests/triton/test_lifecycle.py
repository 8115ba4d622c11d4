"""Start, stop, crash, take-over: one Triton per model version."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from tests.support.triton import Site, build, running, settled_statistics
from tritonclient.grpc import service_pb2 as pb

from stillhouse.clients.triton import TritonClient
from stillhouse.errors import QueueRefusal, ServerError, StillhouseError, UsageError
from stillhouse.triton import ports, steering
from stillhouse.triton.handle import ServerHandle, attach
from stillhouse.triton.handover import HandOver, hand_over, take_over
from stillhouse.triton.server import start, wait_until_ready
from stillhouse.triton.settings import ServeSettings


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def regions(handle: ServerHandle) -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith(handle.server_id)]


@pytest.fixture
def other_site(tmp_path: Path, cache: Path) -> Site:
    return build(tmp_path, cache)


def test_a_record_finds_the_server_again_and_stops_it(other_site: Site) -> None:
    other_site.options.run_folder.mkdir()
    for number in range(9):
        (other_site.options.run_folder / f"triton-{number}.log").touch()
    handle = start(other_site.options)
    assert len(list(other_site.options.run_folder.glob("*.log"))) == 5
    found = attach(handle.to_json())
    assert found == handle
    assert found.stop()
    assert attach(handle.to_json()) is None
    assert regions(handle) == []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", handle.grpc_port))


def test_it_listens_on_loopback_only_and_on_its_cores(other_site: Site, tmp_path: Path, cache: Path) -> None:
    core = min(os.sched_getaffinity(0))
    site = build(tmp_path / "pinned", cache, cpus=1, http=True, metrics=True)
    site.options = replace(site.options, cpus=frozenset({core}))
    with running(site) as handle:
        tree = [psutil.Process(handle.pid), *psutil.Process(handle.pid).children(recursive=True)]
        assert len(tree) == 2
        assert all(process.cpu_affinity() == [core] for process in tree)
        listening = [item for item in tree[0].net_connections("inet") if item.status == psutil.CONN_LISTEN]
        assert {item.laddr.ip for item in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
        assert {item.laddr.port for item in listening} == {handle.grpc_port, handle.http_port, handle.metrics_port}


def test_http_is_locked_where_it_is_open(tmp_path: Path, cache: Path) -> None:
    from http.client import HTTPConnection

    with running(build(tmp_path, cache, http=True)) as handle:

        def status(method: str, path: str) -> int:
            connection = HTTPConnection("127.0.0.1", handle.http_port or 0, timeout=10)
            try:
                connection.request(method, path, body=b"{}" if method == "POST" else None)
                return connection.getresponse().status
            finally:
                connection.close()

        assert status("GET", "/v2/health/ready") == 200
        assert status("GET", "/v2/models/tiny") == 200
        assert status("POST", "/v2/repository/index") == 403
        assert status("POST", "/v2/repository/models/tiny/unload") == 403
        assert status("GET", "/v2/systemsharedmemory/status") == 403
        assert status("GET", "/v2/logging") == 403
        assert status("GET", "/v2/trace/setting") == 403


def test_a_port_in_use_is_a_user_error(other_site: Site) -> None:
    with running(other_site) as first:
        with pytest.raises(UsageError) as caught:
            start(replace(other_site.options, grpc_port=first.grpc_port))
        assert str(first.pid) in caught.value.problem.found
        assert "still down" in caught.value.problem.fix
        assert first.alive()


def test_two_starts_at_once_never_share_a_port(other_site: Site) -> None:
    from stillhouse.triton.ports import free_port

    options = replace(other_site.options, grpc_port=free_port("127.0.0.1"))

    def attempt(_: int) -> ServerHandle | StillhouseError:
        try:
            return start(options)
        except StillhouseError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(attempt, range(2)))
    handles = [item for item in results if isinstance(item, ServerHandle)]
    try:
        assert len(handles) <= 1
        assert all(isinstance(item, UsageError) for item in results if not isinstance(item, ServerHandle))
    finally:
        for handle in handles:
            handle.stop(2)
    # Both may have given way. That says nothing of the port: whoever comes alone has it.
    later = start(options)
    try:
        assert later.address == f"127.0.0.1:{options.grpc_port}"
        later.check()
    finally:
        later.stop(2)


@pytest.mark.parametrize("which", ["grpc", "http", "metrics"])
def test_a_port_that_was_free_and_is_taken_by_the_time_it_is_opened_is_chosen_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    site = build(tmp_path, cache, http=True, metrics=True)
    real = ports.free_port
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        first = ["grpc", "http", "metrics"].index(which)  # the order in which they are chosen
        choices = iter([*(real("127.0.0.1") for _ in range(first)), taken])
        monkeypatch.setattr(ports, "free_port", lambda host: next(choices, None) or real(host))
        with running(site) as handle:
            assert taken not in {handle.grpc_port, handle.http_port, handle.metrics_port}
            with TritonClient(handle.address) as client:
                assert client.ready("tiny")
        assert len(list(site.options.run_folder.glob("*.log"))) == 2, "it was started twice"


def test_a_port_that_was_asked_for_is_not_exchanged_for_another(other_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "require_free", lambda *_: None)  # it is taken after that
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(ServerError, match="already in use"):
            start(replace(other_site.options, grpc_port=holder.getsockname()[1]))
    assert len(list(other_site.options.run_folder.glob("*.log"))) == 1


def test_a_crash_is_told_with_signal_and_log(other_site: Site) -> None:
    handle = start(other_site.options)
    handle.check()
    os.kill(handle.pid, signal.SIGKILL)
    wait_until(lambda: not handle.alive())
    with pytest.raises(ServerError) as caught:
        handle.check()
    assert "SIGKILL" in str(caught.value)
    assert "GRPCInferenceService" in str(caught.value)
    handle.clean_up()
    assert regions(handle) == []


def test_a_model_that_does_not_load_says_why(other_site: Site) -> None:
    (other_site.options.repository / "tiny" / "1" / "model.onnx").unlink()
    (other_site.options.repository / "tiny" / "1" / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ServerError) as caught:
        start(other_site.options)
    assert "exit status" in str(caught.value)
    assert "the model is not readable" in str(caught.value)
    log = next(other_site.options.run_folder.glob("*.log"))
    assert "model.onnx" in log.read_text(encoding="utf-8")


def refusals(client: TritonClient, *, threads: int, requests: int) -> list[str]:
    """Ask from many threads at once; what each request was refused with, "" where it was answered."""

    def ask(_: int) -> str:
        try:
            client.infer_texts("tiny", ["a file"])
        except ServerError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, range(requests)))


def test_a_first_answer_that_the_queue_refuses_is_asked_for_again(other_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton 2.51 lets a request wait for half a second now and then, where a queue has a policy: more than its timeout."""
    real, asked = TritonClient.infer_texts, []

    def infer_texts(self: TritonClient, model: str, texts: list[str], *given: Any) -> Any:
        asked.append(texts)
        if len(asked) <= refused:
            raise QueueRefusal("the server takes no more requests", found="Request timeout expired")
        return real(self, model, texts, *given)

    monkeypatch.setattr(TritonClient, "infer_texts", infer_texts)
    refused = 1
    with running(other_site) as server:
        assert asked == [["ready"], ["ready"]]
        refused = 1000
        with pytest.raises(ServerError, match="did not get ready") as caught:
            wait_until_ready(server, 1.0)
    assert caught.value.problem.found == "its queue refuses every request: Request timeout expired"


def test_a_full_queue_refuses_at_once(tmp_path: Path, cache: Path) -> None:
    serve = ServeSettings(max_batch_size=1, max_queue_size=2, instances=1, warmup=False)
    site = build(tmp_path, cache, serve=serve, model={"work": 400})
    with running(site) as server, TritonClient(server.address, retries=0) as client:
        results = refusals(client, threads=24, requests=48)
    refused = [result for result in results if result]
    assert "" in results
    assert refused
    assert all("Exceeds maximum queue size" in result and "takes no more requests" in result for result in refused)


def test_a_request_waiting_too_long_is_refused(tmp_path: Path, cache: Path) -> None:
    serve = ServeSettings(max_batch_size=1, queue_timeout_us=20_000, instances=1, warmup=False)
    site = build(tmp_path, cache, serve=serve, model={"work": 400})
    with running(site) as server, TritonClient(server.address, retries=0) as client:
        results = refusals(client, threads=16, requests=32)
    assert "" in results
    assert any("timeout" in result.lower() and "takes no more requests" in result for result in results)


@pytest.mark.parametrize("way", ["deadline", "cancel"])
def test_what_a_client_gave_up_is_not_run(tmp_path: Path, cache: Path, way: str) -> None:
    """Cancelled and expired requests leave the queue: the model runs fewer rows than were asked for."""
    serve = ServeSettings(max_batch_size=1, instances=1, warmup=False)
    site = build(tmp_path, cache, serve=serve, model={"work": 300})
    with (
        running(site) as server,
        TritonClient(server.address, timeout_s=120) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        request = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[b"\x01\0\0\0a"])
        request.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1])
        before = settled_statistics(client, "tiny")
        futures = [call.future(request, timeout=0.5 if way == "deadline" else 120) for _ in range(200)]
        if way == "cancel":
            # Sent, but surely not all answered: 200 rows are many seconds of work.
            time.sleep(0.5)
            for future in futures:
                future.cancel()
        else:
            for future in futures:
                future.exception()
        client.infer_texts("tiny", ["a"])
        after = settled_statistics(client, "tiny")
    assert after.inferences - before.inferences < 150
    assert after.requests_failed > before.requests_failed


class Load:
    """Clients that ask without a pause and write down every failure."""

    def __init__(self, address: str, retries: int) -> None:
        self.address, self.retries = address, retries
        self.answered: dict[str, int] = {}
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._keep) for _ in range(4)]
        self._threads.append(threading.Thread(target=self._anew))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: sum(self.answered.values()) > 50)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _keep(self) -> None:
        with TritonClient(self.address, retries=self.retries) as client:
            while not self._stop.is_set():
                self._ask(client)

    def _anew(self) -> None:
        while not self._stop.is_set():
            with TritonClient(self.address, retries=self.retries) as client:
                self._ask(client)
            time.sleep(0.02)

    def _ask(self, client: TritonClient) -> None:
        try:
            answer = client.infer_texts("tiny", ["a file"], provenance=True)
            assert answer.provenance is not None
            digest = str(answer.provenance[0]["digest"])
            self.answered[digest] = self.answered.get(digest, 0) + 1
        except Exception as error:
            self.failures.append(str(error))


def test_a_new_version_takes_the_port_over_without_a_failed_request(tmp_path: Path, cache: Path) -> None:
    """Also for clients that never retry."""
    first, second = build(tmp_path / "one", cache), build(tmp_path / "two", cache, model={"seed": 1})
    config = second.options.repository / "tiny" / "config.pbtxt"
    config.write_text(config.read_text(encoding="utf-8").replace("sha256:00ff", "sha256:1111"), encoding="utf-8")
    old = start(first.options)
    switched: list[HandOver] = []
    try:
        with Load(old.address, retries=0) as load:
            new = hand_over(old, second.options, on_switch=switched.append)
            assert switched[0].steered
            assert not old.alive()
            wait_until(lambda: load.answered.get("sha256:1111", 0) > 200)
        assert new.grpc_port == old.grpc_port
        assert load.failures == []
        assert load.answered["sha256:00ff"] > 50
        with TritonClient(new.address) as client:
            assert client.parameters("tiny")["stillhouse.digest"] == "sha256:1111"
        new.stop(2)
        assert regions(old) == regions(new) == []
    finally:
        for handle in (old, *(item.new for item in switched)):
            handle.stop(0)


def test_without_steering_the_documented_client_sees_no_failure(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "steer", lambda *_: False)
    site = build(tmp_path, cache)
    old = start(site.options)
    new = None
    try:
        with Load(old.address, retries=3) as load:
            new = hand_over(old, site.options)
            before = sum(load.answered.values())
            wait_until(lambda: sum(load.answered.values()) > before + 100)
        assert load.failures == []
    finally:
        for handle in (old, new):
            if handle is not None:
                handle.stop(0)


def test_a_new_version_that_fails_leaves_the_old_one_serving(tmp_path: Path, cache: Path) -> None:
    first, second = build(tmp_path / "one", cache), build(tmp_path / "two", cache)
    broken = second.options.repository / "tiny" / "1" / "tokenizer.json"
    broken.unlink()
    broken.write_text("{", encoding="utf-8")
    with running(first) as old, Load(old.address, retries=0) as load:
        with pytest.raises(ServerError, match="not running any more"):
            take_over(old, second.options)
        before = sum(load.answered.values())
        wait_until(lambda: sum(load.answered.values()) > before + 50)
        old.check()
        assert load.failures == []


def test_a_take_over_keeps_the_port(server: ServerHandle, site: Site) -> None:
    with pytest.raises(UsageError, match="takes over the port"):
        take_over(server, replace(site.options, grpc_port=server.grpc_port + 1))


def test_a_dead_backend_process_is_noticed(other_site: Site) -> None:
    """Triton itself goes on saying that it is ready."""
    with running(other_site) as handle, TritonClient(handle.address) as client:
        assert handle.backends == 2
        handle.check()
        psutil.Process(handle.pid).children()[0].kill()
        wait_until(lambda: handle.count_backends() == 1)
        assert client.ready("tiny")
        with pytest.raises(ServerError, match="1 of 2 backend processes of tiny died"):
            handle.check()
