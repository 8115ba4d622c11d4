"""Tensors over the wire: what tritonclient writes is read, what is written it reads, and nothing hostile gets through."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import InferInput, InferResult, service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import DTYPES, add_output, decoded, inputs_of, outputs_of, packed_bytes, unpacked_bytes
from stillhouse.edge.status import Code, RpcError

Request, Response = message("ModelInferRequest"), message("ModelInferResponse")


def sample(datatype: str) -> Any:
    if datatype == "BYTES":
        return np.array([[b"", b"one"], [b"\0\xff", b"x" * 300]], dtype=object)
    return np.array([[0, 1, 2], [3, 100, 1]]).astype(DTYPES[datatype])


@pytest.mark.parametrize("datatype", [*DTYPES, "BYTES"])
def test_what_tritonclient_sends_is_read(datatype: str) -> None:
    given_input = InferInput("X", list(sample(datatype).shape), datatype)
    given_input.set_data_from_numpy(sample(datatype))
    theirs = service_pb2.ModelInferRequest(inputs=[given_input._get_tensor()], raw_input_contents=[given_input._get_content()])
    found = inputs_of(Request.FromString(theirs.SerializeToString()))["X"]
    assert found.dtype == sample(datatype).dtype
    assert (found == sample(datatype)).all()


@pytest.mark.parametrize("datatype", [*DTYPES, "BYTES"])
def test_what_is_written_tritonclient_reads(datatype: str) -> None:
    response = Response()
    add_output(response, "Y", sample(datatype))
    result = InferResult(service_pb2.ModelInferResponse.FromString(response.SerializeToString()))
    assert (result.as_numpy("Y") == sample(datatype)).all()
    assert (outputs_of(response)["Y"] == sample(datatype)).all()


@pytest.mark.parametrize("datatype", [name for name in [*DTYPES, "BYTES"] if name != "FP16"])
def test_typed_contents_are_read_too(datatype: str) -> None:
    field = {"BOOL": "bool", "UINT64": "uint64", "INT64": "int64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes"}.get(
        datatype, "uint" if datatype.startswith("U") else "int"
    )
    request = Request()
    tensor = request.inputs.add(name="X", datatype=datatype, shape=sample(datatype).shape)
    values = sample(datatype).reshape(-1).tolist()
    getattr(tensor.contents, f"{field}_contents").extend(values)
    found = inputs_of(request)["X"]
    assert found.dtype == sample(datatype).dtype and (found == sample(datatype)).all()


def refused(request: Any) -> str:
    with pytest.raises(RpcError) as caught:
        inputs_of(request)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "words"),
    [
        ("FP32", [2], b"\0" * 7, "7 bytes"),
        ("FP32", [-1], b"", "negative"),
        ("FP32", [1 << 62, 1 << 62], b"", "more than"),
        ("FP32", [2**32, 2**32, 0], b"x", "more than"),
        ("FP8", [1], b"\0", "FP8"),
        ("BYTES", [1], b"", "too short"),
        ("BYTES", [1], struct.pack("<I", 10) + b"short", "10 bytes"),
        ("BYTES", [1], struct.pack("<I", 2**32 - 1), "4294967295"),
        ("BYTES", [1], struct.pack("<I", 1) + b"xy", "after its last element"),
        ("BYTES", [1 << 30], b"", "too short"),
        ("BOOL", [0, 2**40, 2**40], b"", "2^31"),
        ("INT8", [1] * 33, b"x", "33 dimensions"),
    ],
)
def test_what_does_not_fit_together_is_told(datatype: str, shape: list[int], raw: bytes, words: str) -> None:
    request = Request(raw_input_contents=[raw])
    request.inputs.add(name="X", datatype=datatype, shape=shape)
    assert words in refused(request)


def test_raw_contents_of_some_tensors_alone_and_doubles_are_refused() -> None:
    request = Request(raw_input_contents=[b""])
    request.inputs.add(name="X", datatype="FP32", shape=[0])
    request.inputs.add(name="Y", datatype="FP32", shape=[0])
    assert "1 of 2" in refused(request)
    request.raw_input_contents.append(b"")
    request.inputs[1].name = "X"
    assert "twice" in refused(request)


def test_a_value_that_does_not_fit_its_type_is_refused() -> None:
    request = Request()
    tensor = request.inputs.add(name="X", datatype="INT8", shape=[1])
    tensor.contents.int_contents.append(300)
    assert "INT8" in refused(request)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_bytes_come_back(values: list[bytes]) -> None:
    raw = packed_bytes(values)
    assert unpacked_bytes("X", raw, len(values)) == values
    array = np.array(values, dtype=object)
    assert raw == (serialize_byte_tensor(array).item() if values else b"")
    assert list(deserialize_bytes_tensor(raw)) == values


@given(st.binary(max_size=64), st.lists(st.integers(-3, 2**63 - 1), max_size=4), st.sampled_from([*DTYPES, "BYTES", "", "x"]))
def test_whatever_comes_is_a_tensor_or_an_error_of_the_client(raw: bytes, shape: list[int], datatype: str) -> None:
    try:
        decoded("X", datatype, shape, raw)
    except RpcError as error:
        assert error.code is Code.INVALID_ARGUMENT
