"""The REST twin over real sockets: what its clients get is what gRPC's get, and whatever they send, they get JSON."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import socket
import ssl
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc as triton
import tritonclient.http as rest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cascades import SIGNATURE, TableLeg, policy
from tests.support.kube.process import free_port
from tests.support.oip_backend import Site, site
from tests.support.pki import certificates
from tests.support.wire import run
from tritonclient.utils import InferenceServerException

from stillhouse.edge.away.overload import Admission, FixedLimit
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.stages import Stage
from stillhouse.edge.certificates import Files, Front
from stillhouse.edge.door import Door
from stillhouse.edge.guard.clients import Clients
from stillhouse.edge.metrics import Counts
from stillhouse.edge.oip.tensors import datatype_of
from stillhouse.edge.rest.front import Rest
from stillhouse.edge.rest.problems import STATUS
from stillhouse.edge.service import Service
from stillhouse.edge.status import Code
from stillhouse.edge.wire.call import Limits
from stillhouse.edge.wire.server import Server

INFER = "/v2/models/echo/infer"
ONE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[0.1, 2]]}]}
ARRAYS = {
    "f": np.array([[0.1, -np.inf, np.nan]], np.float32), "h": np.array([1.5], np.float16), "i": np.array([-(2**63), 7]),
    "u": np.array([2**64 - 1], np.uint64), "b": np.array([True, False]), "t": np.array([["öß".encode(), b""]], object),
    "e": np.zeros((0, 3), np.int8),
}  # fmt: skip


@pytest.fixture(scope="module")
def there() -> Iterator[Site]:
    with site(limits=Limits(message=1 << 20)) as found:
        yield found


@pytest.fixture(scope="module")
def line(there: Site) -> Iterator[http.client.HTTPConnection]:
    """One HTTP/1.1 connection for all of the tests that use it: whatever they do, it stays."""
    connection = http.client.HTTPConnection(there.rest, timeout=30)
    connection.connect()
    yield connection
    connection.close()


def ask(line: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    line.request(method, path, sent, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = line.getresponse()
    text = answer.read()
    assert answer.headers["content-type"] == "application/json", text
    return answer.status, json.loads(text), answer.headers


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tensors_are_the_same_over_rest_and_grpc(there: Site, binary: bool) -> None:
    found: list[dict[str, Any]] = []
    told: list[Any] = []
    for module, address in ((triton, there.grpc), (rest, there.rest)):
        with module.InferenceServerClient(address) as client:
            inputs, outputs = [], []
            for name, array in ARRAYS.items():
                given = module.InferInput(name, list(array.shape), datatype_of(array))
                as_json = module is rest and not binary and name != "h"  # this client has FP16 as binary alone
                given.set_data_from_numpy(array, **({"binary_data": False} if as_json else {}))
                inputs.append(given)
                more = {"binary_data": binary} if module is rest else {}
                outputs.append(module.InferRequestedOutput(name, **more))
            result = client.infer("echo", inputs, outputs=outputs, request_id="7", model_version="1", parameters={"p": 3})
            found.append({name: result.as_numpy(name) for name in ARRAYS})
            told.append(result.get_response())
    for name, array in ARRAYS.items():
        over_grpc, over_rest = (each[name] for each in found)
        if array.dtype == object and not binary:
            over_rest = np.array([each.encode() for each in over_rest.reshape(-1)], object).reshape(array.shape)
        assert over_rest.dtype == over_grpc.dtype
        np.testing.assert_array_equal(over_rest, over_grpc)
    assert told[1]["parameters"] == {"leg": "edge", "confidence": 0.75}
    assert (told[0].id, told[1]["id"], told[1]["model_name"], told[1]["model_version"]) == ("7", "7", "echo", "1")
    one, other = there.backend.requests[-2:]
    assert one.parameters["p"].int64_param == other.parameters["p"].int64_param == 3
    assert list(one.raw_input_contents) == list(other.raw_input_contents)


def test_everything_else_that_the_protocol_tells(there: Site) -> None:
    with rest.InferenceServerClient(there.rest) as client, triton.InferenceServerClient(there.grpc) as other:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("echo", "1")
        assert not client.is_model_ready("echo", "9") and not client.is_model_ready("nobody")
        assert client.get_server_metadata()["extensions"] == ["classification", "statistics", "binary_tensor_data"]
        assert client.get_model_metadata("echo") == {
            "name": "echo", "versions": ["1"], "platform": "test",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        }  # fmt: skip
        assert client.get_model_repository_index() == [{"name": "echo", "version": "1", "state": "READY", "reason": ""}]
        stats = client.get_inference_statistics("echo")["model_stats"][0]
        assert (stats["inference_count"], stats["inference_stats"]["success"]) == (2**53, {"count": 7, "ns": 0})
        assert client.get_inference_statistics() == client.get_inference_statistics("echo")
        config = client.get_model_config("echo")
        assert (config["max_batch_size"], config["input"][0]["data_type"]) == (8, "TYPE_FP32")
        assert config["instance_group"][0]["kind"] == "KIND_CPU" and config["parameters"]["k"] == {"string_value": "v"}
        for each in (client, other):
            with pytest.raises(InferenceServerException, match="there is no model 'nobody'; there is echo"):
                each.get_model_metadata("nobody")


def test_a_connection_is_kept_whatever_is_asked_over_it(there: Site, line: http.client.HTTPConnection) -> None:
    before = line.sock
    for _ in range(3):
        status, told, _ = ask(line, "POST", INFER, ONE)
        assert status == 200 and told["outputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 2.0]}]
        for method, path, status in (
            ("GET", "/", 404), ("GET", "/v2/models/nobody", 404), ("GET", INFER, 405), ("POST", "/v2/health/live", 405),
            ("GET", "/v2/models/echo/versions/1/nothing", 404), ("POST", "/v2/repository/models/echo/load", 404),
        ):  # fmt: skip
            found, told, _ = ask(line, method, path)
            assert found == status and told["error"]
        assert ask(line, "POST", INFER, b"{")[0] == 400
        assert ask(line, "GET", "/v2/health/ready?verbose=1")[:2] == (200, {"ready": True})
    assert line.sock is before
    session = requests.Session()  # it asks for compressed answers, and sends what it has its own way
    for _ in range(2):
        assert session.post(f"http://{there.rest}{INFER}", json=ONE, timeout=30).json()["outputs"][0]["data"] == [0.1, 2.0]


@pytest.mark.parametrize("code", [each for each in Code if each is not Code.OK], ids=lambda code: code.name)
def test_every_code_has_its_status(line: http.client.HTTPConnection, code: Code) -> None:
    status, told, headers = ask(line, "POST", INFER, {**ONE, "parameters": {"fail": int(code)}})
    assert status == STATUS[code] >= 400 and told == {"error": "as you wish"}
    assert (headers["www-authenticate"] == "Bearer") == (code is Code.UNAUTHENTICATED)


def test_compressed_bodies_are_read_within_the_bound(there: Site, line: http.client.HTTPConnection) -> None:
    plain = json.dumps(ONE).encode()
    for encoding, packed in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain)), ("identity", plain)):
        assert ask(line, "POST", INFER, packed, Content_Encoding=encoding)[0] == 200
    for encoding, body, status in (
        ("gzip", gzip.compress(b" " * (64 << 20)), 413), ("gzip", gzip.compress(plain)[:-4], 400), ("gzip", plain, 400),
        ("gzip", gzip.compress(plain) + b"x", 400), ("br", plain, 415),
    ):  # fmt: skip
        found, told, _ = ask(line, "POST", INFER, body, Content_Encoding=encoding)
        assert (found, "error" in told) == (status, True)
    with rest.InferenceServerClient(there.rest) as client:
        given = rest.InferInput("x", [2], "FP32")
        given.set_data_from_numpy(np.array([1, 2], np.float32))
        found = client.infer("echo", [given], request_compression_algorithm="gzip", response_compression_algorithm="gzip")
        assert found.as_numpy("x").tolist() == [1, 2]


def test_a_body_beyond_the_bound_is_refused_before_it_is_read(there: Site) -> None:
    with socket.create_connection(there.rest.split(":"), timeout=30) as raw:  # type: ignore[arg-type]
        raw.sendall(f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {1 << 40}\r\n\r\n".encode())
        told = raw.recv(4096)
        assert told.startswith(b"HTTP/1.1 413 ") and b"connection: close\r\n" in told
    with socket.create_connection(there.rest.split(":"), timeout=30) as raw:  # type: ignore[arg-type]
        raw.sendall(f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"10000\r\n" + b" " * (1 << 16) + b"\r\n"
        raw.sendall(piece * 17)
        assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_headers_are_bounded_as_grpcs_are(there: Site, line: http.client.HTTPConnection) -> None:
    before = len(there.backend.requests)
    status, told, _ = ask(line, "POST", INFER, ONE, **{f"X_{number}": "x" * 5000 for number in range(4)})
    assert status == 431 and told["error"] and len(there.backend.requests) == before
    assert ask(line, "POST", INFER, ONE, X_One="x" * 5000)[0] == 200


def test_typed_answers_and_binary_ones(there: Site, line: http.client.HTTPConnection) -> None:
    status, told, _ = ask(line, "POST", INFER, {**ONE, "parameters": {"typed": True}})
    assert status == 200 and told["outputs"][0]["data"] == [0.1, 2.0]
    line.request("POST", INFER, json.dumps({**ONE, "parameters": {"typed": True, "binary_data_output": True}}))
    answer = line.getresponse()
    body, length = answer.read(), int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(body[length:], "<f4").tolist() == np.array([0.1, 2], np.float32).tolist()
    assert ask(line, "POST", INFER, ONE, Inference_Header_Content_Length="-1")[0] == 400


@given(
    st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(["", "/infer", "/versions/1/infer", "/config", "/stats/x"])
)
@settings(max_examples=80, deadline=None)
def test_no_request_makes_the_gateway_fail(line: http.client.HTTPConnection, name: bytes, body: bytes, rest_of: str) -> None:
    path = "/v2/models/" + "".join(f"%{each:02X}" for each in name or b"echo") + rest_of
    status, told, _ = ask(line, "POST" if "infer" in rest_of else "GET", path, body, Traceparent="x", Grpc_Timeout="5S")
    assert (400 <= status < 500 and told["error"]) or (status == 200 and told)


def test_a_client_shows_its_token_and_no_backend_sees_it(tmp_path: Path) -> None:
    (tmp_path / "search").write_text("one-token-of-a-good-length")
    with site(clients=Clients(tmp_path)) as there:
        line = http.client.HTTPConnection(there.rest, timeout=30)
        status, told, headers = ask(line, "POST", INFER, b"{" * 100)
        assert (status, headers["www-authenticate"]) == (401, "Bearer") and "token" in told["error"]
        status, _, headers = ask(line, "POST", INFER, b" " * (64 << 10) + b"x" * 99)
        assert (status, headers["connection"]) == (401, "close")
        assert ask(line, "GET", "/v2/models/echo")[0] == 401 and ask(line, "GET", "/v2/health/live")[0] == 200
        shown = {
            "Authorization": "Bearer one-token-of-a-good-length",
            "X_Request_Id": "5",
            "Cookie": "c",
            "X_Forwarded_For": "1.2.3.4",
        }
        assert ask(line, "POST", INFER, ONE, **shown)[0] == 200
        assert there.backend.metadata == {"x-request-id": "5"}
        line.close()


def test_a_cascade_is_asked_over_rest_as_over_grpc() -> None:
    legs = [
        TableLeg(name, time.monotonic, lambda _, row=row: row) for name, row in (("edge", [0.5, 0.5, 0]), ("cloud", [0, 1, 0]))
    ]
    cascade = Cascade("m", SIGNATURE, [Stage(legs[0], policy(0.8)), Stage(legs[1], None)])
    door, counts = Door(Clients(None), None, Admission(FixedLimit(8))), Counts()

    async def work() -> None:
        unary, _ = Service({}, "1", door, counts, {"m": cascade}).methods()
        server = Server(unary, http=Rest(unary, Limits(), door.client).answer)
        line = http.client.HTTPConnection("127.0.0.1", await server.listen("127.0.0.1", 0), timeout=30)
        text = {"name": "TEXT", "datatype": "BYTES", "shape": [2, 1], "data": ["a", "b"]}
        asked = {
            "inputs": [text],
            "outputs": [{"name": "LABEL"}, {"name": "PROBABILITIES", "parameters": {"binary_data": False}}],
        }
        status, told, _ = await asyncio.to_thread(ask, line, "POST", "/v2/models/m/infer", asked)
        assert status == 200 and [each["data"] for each in told["outputs"]] == [["yes", "yes"], [0, 1, 0, 0, 1, 0]]
        found = told["parameters"]
        assert (found["leg"], found["threshold"], found["escalated"], found["variant"]) == ("cloud", 0.8, 2, "v-cloud")
        assert (await asyncio.to_thread(ask, line, "GET", "/v2/models/m/ready"))[0] == 200
        line.close()
        await server.drain(1.0)

    run(work())
    assert counts.ended == {("m", Code.OK): 1}


def test_a_call_that_nobody_waits_for_is_ended_at_the_backend(there: Site, line: http.client.HTTPConnection) -> None:
    slow = {**ONE, "parameters": {"slow": 50.0}}
    status, told, _ = ask(line, "POST", INFER, slow, Grpc_Timeout="200m")
    assert status == 504 and "deadline" in told["error"]
    leaving = http.client.HTTPConnection(there.rest, timeout=30)
    leaving.request("POST", INFER, json.dumps(slow))
    while there.backend.begun < 2:
        time.sleep(0.01)
    leaving.close()
    until = time.monotonic() + 20
    while there.backend.cancelled < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert there.backend.cancelled == 2


def test_grpc_and_rest_share_a_port_and_its_certificate(tmp_path: Path) -> None:
    certificates(tmp_path)
    port = free_port()
    front = Front(Files(tmp_path / "server.crt", tmp_path / "server.key"), None)
    with site(host="127.0.0.1", port=port, rest=("127.0.0.1", port), front=front) as there:
        authority = tmp_path / "authority.crt"
        line = http.client.HTTPSConnection(there.rest, timeout=30, context=ssl.create_default_context(cafile=authority))
        assert ask(line, "POST", INFER, ONE)[0] == 200
        line.close()
        with triton.InferenceServerClient(there.grpc, ssl=True, root_certificates=str(authority)) as client:
            assert client.is_model_ready("echo")
        for version in ("--http1.1", "--http2"):
            words = ["curl", "-sS", version, "--cacert", str(authority), "-d", json.dumps(ONE), f"https://{there.rest}{INFER}"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
            assert json.loads(done.stdout)["outputs"][0]["data"] == [0.1, 2.0]
