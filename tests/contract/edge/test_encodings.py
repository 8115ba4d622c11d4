"""Encoded tensors to a gateway before a backend, over the socket: the backend gets them plain, and nothing of a hostile one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import zstandard
from tests.support.oip_backend import Site, site

from stillhouse.edge.oip.encodings import add_encoded
from stillhouse.edge.oip.marked import MOST_INPUTS
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tensors import inputs_of, outputs_of
from stillhouse.edge.wire.call import Limits
from stillhouse.inference.encodings import Encoding

LARGEST = 1 << 20
VALUES = np.random.default_rng(5).normal(0, 3, (7, 40)).astype(np.float32)
SCALE = (max(VALUES.max(), 0) - min(VALUES.min(), 0)) / 255
BOUNDS = {
    "zstd": 0.0,
    "fp16": float(np.abs(VALUES).max()) * 2**-11,
    "fp16+zstd": float(np.abs(VALUES).max()) * 2**-11,
    "int8": float(SCALE) / 2 + 1e-6,
    "int8-rows+zstd": float(SCALE) / 2 + 1e-6,
}


@pytest.fixture(scope="module")
def there() -> Iterator[Site]:
    with site(limits=Limits(message=LARGEST)) as found:
        yield found


def encoded(how: str, values: np.ndarray = VALUES) -> Any:
    request = message("ModelInferRequest")(model_name="echo", id="1")
    add_encoded(request, "TEXT", np.array([[b"text"]], dtype=object), Encoding())
    add_encoded(request, "x", values, Encoding.parse(how, "") if how else Encoding())
    return request


def asked(there: Site, request: Any) -> Any:
    with grpc.insecure_channel(there.grpc) as channel:
        answer = channel.unary_unary(f"/{SERVICE}/ModelInfer")(request.SerializeToString(), timeout=20)
    return message("ModelInferResponse").FromString(answer)


def bomb(size: int) -> Any:
    """A request with a small frame of `size` zeros, honest about it."""
    request = encoded("zstd", np.zeros(4, np.float32))
    data = zstandard.ZstdCompressor().compress(bytes(size))
    request.raw_input_contents[1] = data
    request.inputs[1].shape[:] = [len(data)]
    request.inputs[1].parameters["stillhouse_shape"].string_param = str(size // 4)
    return request


@pytest.mark.parametrize("how", BOUNDS)
def test_an_encoded_request_is_answered_as_the_plain_one(there: Site, how: str) -> None:
    plain = outputs_of(asked(there, encoded("")))["x"]
    answer = asked(there, encoded(how))
    assert answer.id == "1"
    found = outputs_of(answer)
    assert found["TEXT"].tolist() == [[b"text"]]
    assert found["x"].dtype == np.float32
    assert np.abs(found["x"].astype(np.float64) - plain).max() <= BOUNDS[how]
    arrived = there.backend.requests[-1].inputs[1]
    assert (arrived.datatype, list(arrived.shape), dict(arrived.parameters)) == ("FP32", [7, 40], {})


def test_a_plain_request_passes_as_it_is(there: Site) -> None:
    request = encoded("")
    request.inputs[0].contents.bytes_contents.append(b"stillhouse_encoding")  # words of it are no mark of it
    body = request.SerializeToString()
    with grpc.insecure_channel(there.grpc) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(body + b"\x08", timeout=20)  # a damaged one is none
    asked(there, request)
    assert there.backend.requests[-1].SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)


def test_a_stream_and_rest_take_them_too(there: Site) -> None:
    request = encoded("fp16")
    with grpc.insecure_channel(there.grpc) as channel:
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
        hostile = encoded("fp16")
        hostile.inputs[1].parameters["stillhouse_datatype"].string_param = "FP64"
        bodies = [request.SerializeToString(), hostile.SerializeToString(), request.SerializeToString()]
        answers = [message("ModelStreamInferResponse").FromString(each) for each in stream(iter(bodies), timeout=20)]
    assert [each.error_message.partition(":")[0] for each in answers] == ["", "INVALID_ARGUMENT", ""]
    assert outputs_of(answers[2].infer_response)["x"].dtype == np.float32

    parts = [b"\x04\x00\x00\x00text", request.raw_input_contents[1]]
    texts = {key: value.string_param for key, value in request.inputs[1].parameters.items()}
    head = json.dumps({"inputs": [
        {"name": "TEXT", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(parts[0])}},
        {"name": "x", "datatype": "FP16", "shape": [7, 40], "parameters": {"binary_data_size": len(parts[1]), **texts}},
    ]}).encode()  # fmt: skip
    answer = requests.post(
        f"http://{there.rest}/v2/models/echo/infer",
        head + b"".join(parts),
        headers={"Inference-Header-Content-Length": str(len(head))},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    data = next(each for each in answer.json()["outputs"] if each["name"] == "x")["data"]
    assert np.abs(np.float32(data).reshape(7, 40) - VALUES).max() <= BOUNDS["fp16"]


def with_text(key: str, text: str) -> Any:
    request = encoded("int8")
    request.inputs[1].parameters[f"stillhouse_{key}"].string_param = text
    return request


def without_raw() -> Any:
    request = encoded("zstd")
    del request.raw_input_contents[1]
    return request


def crowd() -> Any:
    request = encoded("fp16")
    for number in range(MOST_INPUTS):
        add_encoded(request, f"a{number}", np.zeros(1, np.float32), Encoding())
    return request


@pytest.mark.parametrize(
    "request_",
    [
        bomb(1 << 26),
        bomb(LARGEST + 4),  # plain, it would be beyond the gateway's limit of a message
        with_text("encoding", "gzip"),
        with_text("scale", "nan"),
        with_text("scale", "1" * 70_000),
        with_text("zero", "900"),
        with_text("datatype", "BYTES"),
        without_raw(),
        crowd(),
    ],
    ids=["bomb", "too-large", "encoding", "nan", "long", "zero", "bytes", "raw", "crowd"],
)
def test_a_hostile_request_reaches_no_backend(there: Site, request_: Any) -> None:
    before = len(there.backend.requests)
    with pytest.raises(grpc.RpcError) as caught:
        asked(there, request_)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert len(there.backend.requests) == before
    assert (outputs_of(asked(there, encoded("zstd")))["x"] == inputs_of(encoded(""))["x"]).all()
