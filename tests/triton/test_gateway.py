"""The gateway before real servers: what a client gets through it is what it gets without it, also while servers come and go."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tritonclient.grpc as triton
from prometheus_client.parser import text_string_to_metric_families
from tests.support.gateway_process import Gateway, gateway, refused
from tests.support.kube.process import free_port
from tests.support.processes import ask
from tests.support.triton import Site, build, running
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from stillhouse.clients.triton import TritonClient
from stillhouse.edge.oip.standard import HEALTH
from stillhouse.triton.server import ServerHandle

TEXTS = ["read a file", "the path of a value", "", "write the name of the list"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Site:
    return build(tmp_path_factory.mktemp("gateway"), cache, cpus=1, http=True)


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[ServerHandle]:
    with running(site) as handle:
        yield handle


@pytest.fixture(scope="module")
def front(server: ServerHandle) -> Iterator[Gateway]:
    with gateway(f"--model=tiny={server.address}", f"--model=other=127.0.0.1:{free_port()}") as found:
        yield found


def test_answers_are_the_servers_own(server: ServerHandle, front: Gateway) -> None:
    with TritonClient(server.address) as direct, TritonClient(front.address) as through:
        expected, found = (each.infer_texts("tiny", TEXTS, provenance=True) for each in (direct, through))
        assert (found.embeddings == expected.embeddings).all()  # type: ignore[union-attr]
        assert found.provenance == expected.provenance
        assert through.parameters("tiny") == direct.parameters("tiny")


def test_the_whole_protocol_is_there_and_what_is_locked_is_not(front: Gateway) -> None:
    with triton.InferenceServerClient(front.address) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
        assert client.get_server_metadata().name == "stillhouse-gateway"
        assert client.get_model_metadata("tiny").name == "tiny"
        assert client.get_inference_statistics("tiny").model_stats[0].name == "tiny"
        for ask in (
            client.get_log_settings,
            client.get_trace_settings,
            lambda: client.load_model("tiny"),
            lambda: client.unload_model("tiny"),
            client.get_system_shared_memory_status,
        ):
            with pytest.raises(InferenceServerException, match="there is no method"):
                ask()
        index = {each.name: each.state for each in client.get_model_repository_index().models}
        assert set(index) == {"tiny", "other"}
        with pytest.raises(InferenceServerException, match="there is no model 'nobody'; there is other, tiny"):
            client.get_model_metadata("nobody")
        with pytest.raises(InferenceServerException, match="the server cannot be reached") as refused:
            client.get_model_metadata("other")
        assert "127.0.0.1" not in str(refused.value), "where backends are is for the log alone"


def test_rest_is_the_servers_own(server: ServerHandle) -> None:
    port = free_port()
    asked = {"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [4, 1], "data": [[text] for text in TEXTS]}], "id": "7"}
    one = {**asked, "outputs": [{"name": "EMBEDDING", "parameters": {"binary_data": True}}]}
    wrong = {"inputs": [{**asked["inputs"][0], "name": "ELSE"}]}
    told: list[dict[str, Any]] = []
    with gateway(f"--model=tiny={server.address}", f"--rest=127.0.0.1:{port}"):
        for each in (server.http_port, port):
            url = f"http://127.0.0.1:{each}/v2/models/tiny"
            found = {what: requests.get(f"{url}{what}", timeout=30).json() for what in ("", "/config", "/versions/1")}
            found["stats"] = set(requests.get(f"{url}/stats", timeout=30).json()["model_stats"][0])
            found["json"] = requests.post(f"{url}/infer", json=asked, timeout=30).json()
            binary = requests.post(f"{url}/infer", json=one, timeout=30)
            size = int(binary.headers["inference-header-content-length"])
            found["binary"] = json.loads(binary.content[:size]), binary.content[size:]
            failed = requests.post(f"{url}/infer", json=wrong, timeout=30)
            found["wrong"] = failed.status_code, failed.json()
            told.append(found)
    for each in told:  # the server writes more digits of a float than there are
        for output in each["json"]["outputs"]:
            output["data"] = np.array(output["data"], np.float32).tolist()
    assert told[1] == told[0]


def request(texts: list[str]) -> Any:
    given = triton.InferInput("TEXT", [len(texts), 1], "BYTES")
    given.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=object))
    return given


def test_a_stream_answers_each_request_and_goes_on_after_one_that_fails(server: ServerHandle, front: Gateway) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with TritonClient(server.address) as direct, triton.InferenceServerClient(front.address) as client:
        expected = direct.infer_texts("tiny", TEXTS).embeddings
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("tiny", [request(TEXTS)], request_id="1")
        client.async_stream_infer("nobody", [request(TEXTS)], request_id="2")
        client.async_stream_infer("tiny", [request(TEXTS)], request_id="3")
        found = [answers.get(timeout=20) for _ in range(3)]
        client.stop_stream()
    assert [result.get_response().id if result else "" for result, _ in found] == ["1", "", "3"]
    assert "there is no model" in str(found[1][1])
    for result, error in (found[0], found[2]):
        assert error is None and np.allclose(result.as_numpy("EMBEDDING"), expected, atol=1e-6)


def test_mistakes_are_told_as_the_server_tells_them(server: ServerHandle, front: Gateway) -> None:
    told = []
    for address in (server.address, front.address):
        with triton.InferenceServerClient(address) as client, pytest.raises(InferenceServerException) as caught:
            wrong = triton.InferInput("ELSE", [1, 1], "BYTES")
            wrong.set_data_from_numpy(np.array([[b"x"]], dtype=object))
            client.infer("tiny", [wrong])
        told.append((caught.value.status(), caught.value.message()))
    assert told[0] == told[1]


def test_health_is_that_of_grpc(front: Gateway) -> None:
    request, response = HEALTH.message("HealthCheckRequest"), HEALTH.message("HealthCheckResponse")
    with grpc.insecure_channel(front.address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request.SerializeToString, response.FromString)
        for service in ("", "inference.GRPCInferenceService", "tiny"):
            assert check(request(service=service), timeout=10).status == 1
        with pytest.raises(grpc.RpcError) as caught:
            check(request(service="nobody"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", request.SerializeToString, response.FromString)
        states = watch(request(service="tiny"), timeout=10)
        assert next(states).status == 1
        states.cancel()


def test_servers_come_and_go_under_load_and_no_request_fails(site: Site, tmp_path: Path, cache: Path) -> None:
    """Two servers; one after the other ends gracefully and comes back. A retried call is one that no server had begun with."""
    other = build(tmp_path, cache, cpus=1, grpc_port=free_port())
    with running(other) as first:
        ports = {"stay": first.address}
        again = build(tmp_path / "again", cache, cpus=1, grpc_port=free_port())
        address = f"127.0.0.1:{again.options.grpc_port}"
        with gateway(f"--model=tiny={ports['stay']},{address}") as front:
            stop, answers, failures = threading.Event(), [0], []

            def load() -> None:
                with TritonClient(front.address, timeout_s=20.0, retries=0) as client:
                    while not stop.is_set():
                        try:
                            client.infer_texts("tiny", TEXTS)
                            answers[0] += 1
                        except Exception as error:
                            failures.append(error)

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(2):
                with running(again):
                    time.sleep(1.0)
                time.sleep(0.5)
            stop.set()
            for thread in threads:
                thread.join(30)
    assert answers[0] > 100
    assert not failures, failures[:3]


def test_the_gateway_itself_ends_without_a_lost_request(server: ServerHandle) -> None:
    with gateway(f"--model=tiny={server.address}", "--grace=10") as front, TritonClient(front.address, retries=0) as client:
        begun, results = threading.Event(), []

        def ask() -> None:
            begun.set()
            results.extend(client.infer_texts("tiny", TEXTS).embeddings is not None for _ in range(1))

        assert client.infer_texts("tiny", TEXTS).embeddings is not None
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        begun.wait(10)
        for thread in threads:
            thread.join(30)
        front.process.terminate()
        assert front.process.wait(20) == 0
        assert results == [True] * 8


def test_only_clients_with_a_token_are_answered_and_the_backend_never_sees_it(server: ServerHandle, tmp_path: Path) -> None:
    (tmp_path / "search").write_text("one-token-of-a-good-length")
    with (
        gateway(f"--model=tiny={server.address}", f"--tokens={tmp_path}") as front,
        triton.InferenceServerClient(front.address) as client,
    ):
        for ask in (lambda: client.infer("tiny", [request(TEXTS)]), lambda: client.get_model_metadata("tiny")):
            with pytest.raises(InferenceServerException, match="a token is needed"):
                ask()
        shown = {"authorization": "Bearer one-token-of-a-good-length"}
        assert client.infer("tiny", [request(TEXTS)], headers=shown).as_numpy("EMBEDDING") is not None
        assert client.is_server_ready(), "a probe has no token"


def test_what_it_does_is_told_to_prometheus(server: ServerHandle) -> None:
    port = free_port()
    with gateway(f"--model=tiny={server.address}", f"--metrics=127.0.0.1:{port}") as front, TritonClient(front.address) as client:
        for _ in range(3):
            client.infer_texts("tiny", TEXTS)
        with triton.InferenceServerClient(front.address) as other, pytest.raises(InferenceServerException):
            other.infer("a-name-of-the-clients", [request(TEXTS)])
        assert ask(port, "/healthz") == ask(port, "/readyz") == (200, "ok\n")
        status, text = ask(port, "/metrics")
        assert status == 200
        found = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert found["stillhouse_gateway_inferences_total", ("code", "OK"), ("model", "tiny")] == 3
        assert found["stillhouse_gateway_inferences_total", ("code", "NOT_FOUND"), ("model", "")] == 1
        assert found["stillhouse_gateway_seconds_count", ("model", "tiny")] == 3
        assert found["stillhouse_gateway_seconds_sum", ("model", "tiny")] > 0
        assert found["stillhouse_gateway_backend_usable", ("backend", server.address), ("model", "tiny")] == 1
        assert found["stillhouse_gateway_in_flight",] == 0
        assert "a-name-of-the-clients" not in text
        assert ask(port, "/else")[0] == 404


def test_a_client_that_asks_too_often_is_told_when_to_come_back(server: ServerHandle) -> None:
    with (
        gateway(f"--model=tiny={server.address}", "--client-rate=1", "--client-burst=3") as front,
        grpc.insecure_channel(front.address) as channel,
    ):
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        body = service_pb2.ModelInferRequest(
            model_name="tiny", inputs=[request(TEXTS)._get_tensor()], raw_input_contents=[request(TEXTS)._get_content()]
        ).SerializeToString()
        for _ in range(3):
            infer(body, timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            infer(body, timeout=10)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1 requests per second" in error.details()


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--model=tiny",), "--model"),
        (("--model=tiny=nowhere",), "--model"),
        (("--model=tiny=127.0.0.1:1@much",), "--model"),
        (("--model=tiny=127.0.0.1:1", "--listen=8001"), "--listen"),
        (("--model=tiny=127.0.0.1:1", "--tls-key=/none"), "--tls-certificate"),
        (("--model=tiny=127.0.0.1:1", "--tls-key=/none", "--tls-certificate=/none"), "--tls-certificate"),
        (("--model=tiny=127.0.0.1:1", "--tokens=/none"), "--tokens"),
        (("--model=tiny=127.0.0.1:1", "--backend-tls", "--backend-authority=/none"), "--backend-authority"),
    ],
)
def test_a_users_mistake_is_told_with_its_field(words: tuple[str, ...], field: str) -> None:
    code, told = refused(*words)
    assert code == 2
    assert field in told and "Traceback" not in told


def test_a_port_that_is_taken_is_told(server: ServerHandle) -> None:
    code, told = refused("--model=tiny=127.0.0.1:1", f"--listen={server.address}")
    assert code == 5 and "--listen" in told and "Traceback" not in told
