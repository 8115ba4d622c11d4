"""The ensemble of runtime triton-nvidia in a real Triton; the model's backend has a stand-in (tests/support/onnx_backend.py)."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tests.support
import tritonclient.grpc as triton
from tests.support.tiny_model import IMAGE
from tests.support.triton import Site, at_rest, build, running
from tests.triton.test_inference import TEXTS
from tritonclient.grpc import service_pb2 as pb

from stillhouse.clients.triton import TritonClient, pack_strings
from stillhouse.errors import DataError
from stillhouse.inference.engine import Engine
from stillhouse.scaling.counters import read
from stillhouse.triton.handle import ServerHandle
from stillhouse.triton.locate import find, prepare_backends
from stillhouse.triton.runtimes import runtime

ON_A_CPU = replace(runtime("triton-nvidia"), accelerator="cpu", home="")


@pytest.fixture(scope="module")
def with_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a backend directory that has the stand-in, too."""
    cache = tmp_path_factory.mktemp("cache")
    place = prepare_backends(find(), cache) / "onnxruntime"
    place.mkdir()
    shutil.copyfile(Path(tests.support.__path__[0]) / "onnx_backend.py", place / "model.py")
    return cache


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, with_stand_in: Path) -> Site:
    return build(tmp_path_factory.mktemp("site"), with_stand_in, which=ON_A_CPU, metrics=True)


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[ServerHandle]:
    with running(site) as handle:
        yield handle


def test_same_numbers_as_in_process(client: TritonClient, engine: Engine) -> None:
    answer = client.infer_texts("tiny", TEXTS)
    assert answer.embeddings is not None
    np.testing.assert_allclose(answer.embeddings, engine.embed(TEXTS), atol=1e-5)
    with ThreadPoolExecutor(8) as pool:
        answers = np.concatenate(
            [each.embeddings for each in pool.map(lambda text: client.infer_texts("tiny", [text]), TEXTS * 20)]
        )
    np.testing.assert_allclose(answers, engine.embed(TEXTS * 20), atol=1e-5)


def test_it_says_where_an_answer_comes_from(client: TritonClient, engine: Engine) -> None:
    answer = client.infer_texts("tiny", TEXTS, provenance=True)
    assert answer.provenance is not None
    assert [row["truncated"] for row in answer.provenance] == engine.run_texts(TEXTS).cut
    assert {(row["precision"], row["variant"], row["contract"]) for row in answer.provenance} == {("fp32", "main", "1")}
    assert client.parameters("tiny")["stillhouse.digest"] == "sha256:00ff"


def test_whoever_names_an_output_gets_that_alone(server: ServerHandle, engine: Engine) -> None:
    with triton.InferenceServerClient(server.address) as other:
        texts = triton.InferInput("TEXT", [2, 1], "BYTES")
        texts.set_data_from_numpy(np.array([["a file"], ["read"]], dtype=object))
        answer = other.infer("tiny", [texts], outputs=[triton.InferRequestedOutput("EMBEDDING")])
    np.testing.assert_allclose(answer.as_numpy("EMBEDDING"), engine.embed(["a file", "read"]), atol=1e-5)
    assert answer.as_numpy("PROVENANCE") is None


def test_a_wrong_text_fails_its_own_request(server: ServerHandle, client: TritonClient, engine: Engine) -> None:
    def ask(raw: bytes) -> Any:
        request = pb.ModelInferRequest(model_name="tiny")
        request.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1])
        request.raw_input_contents.append(pack_strings([raw]))
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            return call(request, timeout=20)

    with ThreadPoolExecutor(8) as pool:
        right = [pool.submit(ask, b"open the file") for _ in range(20)]
        wrong = [pool.submit(ask, b"\xff") for _ in range(5)]
    for future in wrong:
        with pytest.raises(grpc.RpcError) as told:
            future.result()
        assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "TEXT[0]" in told.value.details()
    expected = engine.embed(["open the file"])[0]
    for future in right:
        found = dict(zip([each.name for each in future.result().outputs], future.result().raw_output_contents, strict=True))
        np.testing.assert_allclose(np.frombuffer(found["EMBEDDING"], np.float32), expected, atol=1e-5)


def test_its_counters_are_those_that_scaling_reads(server: ServerHandle, client: TritonClient) -> None:
    def counted() -> Any:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10
        ) as answer:
            return read(answer.read().decode(), "tiny", 0.0)

    before = at_rest(counted)
    for _ in range(10):
        client.infer_texts("tiny", ["a file"])
    after = at_rest(counted)
    assert after.ended - before.ended == 10
    assert after.compute_s > before.compute_s


def test_only_inference_is_open(server: ServerHandle) -> None:
    with triton.InferenceServerClient(server.address) as other:
        for forbidden in (lambda: other.unload_model("tiny"), other.get_model_repository_index, other.get_log_settings):
            with pytest.raises(triton.InferenceServerException, match="restricted"):
                forbidden()


@pytest.mark.parametrize("task", ["text-classification", "image-classification"])
def test_classifiers(task: Any, tmp_path: Path, with_stand_in: Path) -> None:
    site = build(tmp_path, with_stand_in, which=ON_A_CPU, model={"task": task})
    engine = Engine(site.artifact)
    with running(site) as handle, TritonClient(handle.address) as client:
        if task == "text-classification":
            answer, expected = client.infer_texts("tiny", TEXTS), engine.predict(TEXTS)
        else:
            images = np.random.default_rng(1).random((3, IMAGE.channels, IMAGE.height, IMAGE.width), dtype=np.float32)
            answer, expected = client.infer_images("tiny", images), engine.predict_arrays(images)
            with pytest.raises(DataError, match="not finite"):
                client.infer_images("tiny", images * np.float32("nan"))
        assert answer.probabilities is not None
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-5)
        assert answer.labels == [engine.signature.labels[row] for row in expected.argmax(axis=1)]
