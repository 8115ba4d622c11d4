"""Strings in, answers out: the wire contract against a real server."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from bench.harness.errors import BenchError
from bench.harness.load import loadgen
from tests.support.tiers import require
from tests.support.tiny_model import IMAGE
from tests.support.triton import build, running, settled_statistics
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from stillhouse.clients.triton import TritonClient, pack_strings
from stillhouse.errors import DataError, ServerError
from stillhouse.inference.engine import Engine
from stillhouse.triton.server import ServerHandle
from stillhouse.triton.settings import ServeSettings

TEXTS = ["open the file", "a", "return the list of path name value", "", "unseen Wörter", "read write " * 40]


@pytest.fixture(scope="session")
def independent() -> Path:
    """The load generator of the benchmarks, compiled."""
    try:
        return loadgen()
    except BenchError as why:
        require("triton", str(why))
        raise  # not reached: something is missing


def test_same_numbers_as_in_process(client: TritonClient, engine: Engine) -> None:
    answer = client.infer_texts("tiny", TEXTS)
    assert answer.embeddings is not None
    np.testing.assert_allclose(answer.embeddings, engine.embed(TEXTS), atol=1e-5)
    assert answer.provenance is None


def test_provenance_when_asked_for(client: TritonClient, engine: Engine) -> None:
    answer = client.infer_texts("tiny", TEXTS, provenance=True)
    assert answer.provenance is not None
    assert [row["truncated"] for row in answer.provenance] == engine.run_texts(TEXTS).cut
    assert {row["digest"] for row in answer.provenance} == {"sha256:00ff"}
    assert {(row["precision"], row["variant"], row["contract"]) for row in answer.provenance} == {("fp32", "main", "1")}


def test_lengths_far_apart_share_a_batch(client: TritonClient, engine: Engine, server: ServerHandle) -> None:
    before = settled_statistics(client, "tiny")
    texts = [" ".join(["file"] * (1 + index % 20)) for index in range(400)]

    def ask(text: str) -> Any:
        return client.infer_texts("tiny", [text]).embeddings

    with ThreadPoolExecutor(16) as pool:
        answers = np.concatenate(list(pool.map(ask, texts)))
    np.testing.assert_allclose(answers, engine.embed(texts), atol=1e-5)
    after = settled_statistics(client, "tiny")
    assert after.inferences - before.inferences == 400
    assert after.executions - before.executions < 400
    assert max(after.batch_sizes) > 1


def test_metadata_says_what_the_contract_says(server: ServerHandle, client: TritonClient) -> None:
    with triton.InferenceServerClient(server.address) as other:
        model = other.get_model_metadata("tiny", as_json=True)
    assert model["inputs"] == [
        {"name": "TEXT", "datatype": "BYTES", "shape": ["-1", "1"]},
        {"name": "input_ids", "datatype": "INT64", "shape": ["-1", "-1"]},
        {"name": "attention_mask", "datatype": "INT64", "shape": ["-1", "-1"]},
    ]
    assert {output["name"] for output in model["outputs"]} == {"EMBEDDING", "PROVENANCE"}
    assert client.parameters("tiny")["stillhouse.task"] == "sentence-embedding"
    assert client.server().id == server.server_id
    assert client.ready("tiny")
    assert not client.ready("another")


def test_tritonclient_gets_an_answer(server: ServerHandle, engine: Engine) -> None:
    with triton.InferenceServerClient(server.address) as other:
        tensor = triton.InferInput("TEXT", [2, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[b"open the file"], ["schön".encode()]], dtype=object))
        reply = other.infer("tiny", [tensor])
    np.testing.assert_allclose(reply.as_numpy("EMBEDDING"), engine.embed(["open the file", "schön"]), atol=1e-5)
    assert reply.as_numpy("PROVENANCE") is None


def test_the_bare_method_and_messages_get_an_answer(server: ServerHandle, engine: Engine) -> None:
    """No stubs and no client library: the method's path, and the protocol's messages as tritonclient has them compiled."""
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        request = pb.ModelInferRequest(model_name="tiny", id="7")
        tensor = request.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1])
        tensor.contents.bytes_contents.append(b"open the file")
        request.outputs.add(name="EMBEDDING")
        reply = call(request, timeout=10)
    assert reply.id == "7"
    assert [output.name for output in reply.outputs] == ["EMBEDDING"]
    values = np.frombuffer(reply.raw_output_contents[0], np.float32)
    np.testing.assert_allclose(values, engine.embed(["open the file"])[0], atol=1e-5)


@pytest.mark.timeout(func_only=True)  # the first time, a compiler runs before it
def test_a_client_that_shares_nothing_with_ours_gets_the_same_answers(
    independent: Path, server: ServerHandle, engine: Engine, tmp_path: Path
) -> None:
    """Go, another gRPC library, and the protocol's messages written and read byte by byte (bench/loadgen/oip.go)."""
    payloads = tmp_path / "texts.jsonl"
    payloads.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    count = str(len(TEXTS))
    done = subprocess.run(
        [
            independent, "--protocol", "grpc", "--target", server.address, "--model", "tiny", "--payloads", payloads,
            "--clients", "2", "--warmup", "0s", "--max-requests", count, "--answers", count, "--expect-dim", "16",
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (report["right"], report["errors"]) == (len(TEXTS), 0)
    answers = np.array([report["answers"][str(position)] for position in range(len(TEXTS))], np.float32)
    np.testing.assert_allclose(answers, engine.embed(TEXTS), atol=1e-5)


def raw(server: ServerHandle, content: bytes, shape: list[int], datatype: str = "BYTES", name: str = "TEXT") -> Any:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        request = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[content])
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        return call(request, timeout=10)


def rows(client: TritonClient, text: str) -> tuple[int, ...]:
    values = client.infer_texts("tiny", [text]).embeddings
    assert values is not None
    return values.shape


def test_bad_utf8_is_that_requests_error_alone(server: ServerHandle, client: TritonClient) -> None:
    def bad() -> str:
        with pytest.raises(grpc.RpcError) as caught:
            raw(server, pack_strings([b"fine", b"ab\xff"]), [2, 1])
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        details: str = caught.value.details()
        return details

    with ThreadPoolExecutor(16) as pool:
        good = [pool.submit(lambda: rows(client, "a file")) for _ in range(40)]
        wrong = [pool.submit(bad) for _ in range(8)]
        assert all(future.result() == (1, 16) for future in good)
        for future in wrong:
            assert "TEXT[1]" in future.result()
            assert "byte 0xff at position 2" in future.result()


@pytest.mark.parametrize(
    ("content", "shape", "datatype", "name", "says"),
    [
        (pack_strings([b"a", b"b"]), [1, 2], "BYTES", "TEXT", "TEXT"),
        (b"\0" * 8, [1, 2], "INT32", "TEXT", "TEXT"),
        (pack_strings([b"a"]), [1, 1], "BYTES", "OTHER", "OTHER"),
        (pack_strings([b"a"] * 33), [33, 1], "BYTES", "TEXT", "batch"),
    ],
)
def test_a_wrong_shape_type_or_name_is_named(
    server: ServerHandle, content: bytes, shape: list[int], datatype: str, name: str, says: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw(server, content, shape, datatype, name)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in caught.value.details()


def test_our_client_turns_refusals_into_user_errors(client: TritonClient) -> None:
    with pytest.raises(DataError, match="refused the request"):
        client.infer_texts("tiny", ["a"] * 33)
    with pytest.raises(ServerError, match="does not serve this model"):
        client.infer_texts("another", ["a"])


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.get_system_shared_memory_status(),
        lambda c: c.register_system_shared_memory("x", "/x", 1),
        lambda c: c.get_model_repository_index(),
        lambda c: c.unload_model("tiny"),
        lambda c: c.load_model("tiny"),
        lambda c: c.get_trace_settings(),
        lambda c: c.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
        lambda c: c.update_log_settings({"log_verbose_level": 1}),
    ],
)
def test_what_could_change_the_server_is_locked(server: ServerHandle, call: Any) -> None:
    with triton.InferenceServerClient(server.address) as other, pytest.raises(InferenceServerException) as caught:
        call(other)
    assert "UNAVAILABLE" in str(caught.value.status())
    assert "restricted" in str(caught.value.message())


def test_http_is_closed(server: ServerHandle) -> None:
    assert server.http_port is None
    assert server.metrics_port is None


def test_classifier_and_response_cache(tmp_path: Path, cache: Path) -> None:
    site = build(tmp_path, cache, serve=ServeSettings(response_cache=True), model={"task": "text-classification"}, metrics=True)
    engine = Engine(site.artifact)
    with running(site) as server, TritonClient(server.address) as client:
        for _ in range(3):
            answer = client.infer_texts("tiny", TEXTS)
            expected = engine.predict(TEXTS)
            assert answer.probabilities is not None
            np.testing.assert_allclose(answer.probabilities, expected, atol=1e-5)
            assert answer.labels == [site.signature.labels[index] for index in expected.argmax(axis=1)]
        stats = settled_statistics(client, "tiny")
        assert json.loads(client.parameters("tiny")["stillhouse.labels"]) == ["no", "yes", "perhaps"]
        with triton.InferenceServerClient(server.address) as other:
            raw_stats = other.get_inference_statistics("tiny", as_json=True)["model_stats"][0]
    assert int(raw_stats["inference_stats"]["cache_hit"]["count"]) == 2
    assert stats.requests_ok >= 3


def test_images(tmp_path: Path, cache: Path) -> None:
    site = build(tmp_path, cache, model={"task": "image-classification"})
    engine = Engine(site.artifact)
    images = np.random.default_rng(0).random((5, IMAGE.channels, IMAGE.height, IMAGE.width), dtype=np.float32)
    with running(site) as server, TritonClient(server.address) as client:
        answer = client.infer_images("tiny", images)
        assert answer.probabilities is not None
        np.testing.assert_allclose(answer.probabilities, engine.predict_arrays(images), atol=1e-5)
        images[2, 0, 0, 0] = np.nan
        with pytest.raises(DataError, match="refused"):
            client.infer_images("tiny", images)
