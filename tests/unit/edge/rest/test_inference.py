"""REST's JSON and binary tensors: what is taken, what is refused, and that both ways lead to the same message."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import DTYPES, add_output, inputs_of
from stillhouse.edge.rest.bodies import LARGEST_JSON, document, parted
from stillhouse.edge.rest.inference import Wanted, request_of, response_of
from stillhouse.edge.rest.problems import HttpProblem
from stillhouse.edge.status import Code, RpcError


def asked(tensor: Any, binary: bytes = b"", **more: Any) -> Any:
    text = json.dumps({"inputs": tensor if isinstance(tensor, list) else [tensor], **more}).encode()
    return request_of("m", "", text, binary)[0]


def x(datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": shape, "data": data}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_tensor_survives_the_way_there_and_back(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(sorted(DTYPES)))
    array = data.draw(arrays(DTYPES[datatype], st.lists(st.integers(0, 3), max_size=3).map(tuple)))
    response = message("ModelInferResponse")(model_name="m")
    add_output(response, "x", array)
    binary, nested = data.draw(st.booleans()), data.draw(st.booleans())
    body, length = response_of(response.SerializeToString(), Wanted(binary))
    text, rest = parted(body, None if length is None else str(length).encode())
    told = json.loads(text)["outputs"][0]  # strict: what another language reads
    assert (told["shape"], told["datatype"]) == (list(array.shape), datatype)
    if nested and not binary and array.ndim:
        told["data"] = np.array(told["data"], dtype=object).reshape(array.shape).tolist()
    back = inputs_of(request_of("m", "", json.dumps({"inputs": [told]}).encode(), rest)[0])["x"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
PARAMETERS = st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", "a"]), JSON, max_size=3)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | JSON,
        "datatype": st.sampled_from([*DTYPES, "BYTES", "BF16"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "data": st.lists(st.floats() | st.integers() | st.booleans(), max_size=5) | JSON,
        "parameters": PARAMETERS | JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={"id": JSON, "parameters": PARAMETERS | JSON, "inputs": st.lists(TENSOR, max_size=3) | JSON,
              "outputs": st.lists(TENSOR, max_size=2) | JSON},
)  # fmt: skip


@given(
    REQUEST.map(json.dumps).map(str.encode) | st.binary(max_size=60) | JSON.map(json.dumps).map(str.encode), st.binary(max_size=8)
)
@settings(max_examples=400, deadline=None)
def test_whatever_comes_is_a_message_or_a_clients_mistake(text: bytes, binary: bytes) -> None:
    try:
        request, _ = request_of("m", "1", text, binary)
    except HttpProblem as problem:
        assert problem.status == 400 and problem.message.encode("utf-8", "surrogatepass")
    else:
        assert message("ModelInferRequest").FromString(request.SerializeToString()) == request
        assert sum(map(len, request.raw_input_contents)) >= len(binary)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (x("FP32", [2, 2], [[1, 2], [3]]), "lists of 2 at depth 1"),
        (x("FP32", [2, 2], [[1, 2]]), "1 rows"),
        (x("FP32", [2, 2], [1, 2, 3]), "3 values, shape [2, 2] needs 4"),
        (x("FP32", [2, 2], [[1, 2], 3, 4]), "at depth 1"),
        (x("FP32", [1], ["1.5"]), "'1.5' is no number"),
        (x("FP32", [1], [None]), "data of FP32 is numbers"),
        (x("FP32", [1], [1e39]), "does not fit into FP32"),
        (x("FP32", [2], [10**400, math.nan]), "does not fit into FP32"),
        (x("INT8", [1], [128]), "does not fit into INT8"),
        (x("UINT64", [1], [-1]), "does not fit into UINT64"),
        (x("INT32", [1], [1.0]), "whole numbers"),
        (x("INT32", [1], [True]), "whole numbers"),
        (x("BOOL", [1], [1]), "true and false"),
        (x("BYTES", [1], [1]), "data of BYTES is texts"),
        (x("BYTES", [1], ["\ud800"]), "surrogate"),
        (x("BF16", [1], [1.0]), "datatype 'BF16'"),
        (x("FP32", [-1], [1.0]), "inputs[0].shape"),
        (x("FP32", [2**40, 2**40], []), "more than 2^31"),
        ({**x("FP32", [1], [1.0]), "parameters": {"binary_data_size": 4}}, "one of them"),
        ({"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 5}}, "of the 0 bytes that are left"),
        ({**x("FP32", [1], [1.0]), "parameters": {"k": [1]}}, "inputs[0].parameters.k"),
        ({"name": "x", "datatype": "FP32", "shape": [1]}, "data is a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(tensor: dict[str, Any], words: str) -> None:
    with pytest.raises(HttpProblem) as caught:
        asked(tensor)
    assert words in caught.value.message and caught.value.status == 400


def test_numbers_that_json_does_not_have_come_as_python_and_as_protobuf_write_them() -> None:
    for data in ([math.nan, math.inf, -math.inf, 1], ["NaN", "Infinity", "-Infinity", 1]):
        found = inputs_of(asked(x("FP32", [4], data)))["x"]
        np.testing.assert_array_equal(found, np.array([np.nan, np.inf, -np.inf, 1], np.float32))


def test_binary_tensors_stand_behind_the_json_in_their_order() -> None:
    def binary(name: str, size: int) -> dict[str, Any]:
        return {"name": name, "datatype": "UINT8", "shape": [size], "parameters": {"binary_data_size": size, "k": 2**63}}

    tensors = [binary("a", 2), x("UINT8", [1], [9]), binary("b", 3)]
    request = asked(tensors, b"\1\2\3\4\5")
    assert {name: array.tolist() for name, array in inputs_of(request).items()} == {"a": [1, 2], "x": [9], "b": [3, 4, 5]}
    assert dict(request.inputs[0].parameters).keys() == {"k"} and request.inputs[0].parameters["k"].uint64_param == 2**63
    with pytest.raises(HttpProblem, match="1 bytes are left behind"):
        asked(tensors, b"\1\2\3\4\5\6")


def test_each_output_travels_as_it_is_asked_for_and_no_backend_sees_how() -> None:
    outputs = [{"name": "a", "parameters": {"binary_data": False, "classification": 2}}, {"name": "b"}]
    request, wanted = request_of(
        "m",
        "3",
        json.dumps({"inputs": [], "outputs": outputs, "parameters": {"binary_data_output": True, "p": 0.5}}).encode(),
        b"",
    )
    assert (
        request.model_version == "3"
        and set(request.parameters) == {"p"}
        and set(request.outputs[0].parameters) == {"classification"}
    )
    assert [wanted.binary(name) for name in "abc"] == [False, True, True]


def test_what_an_answer_cannot_say_in_json_is_the_clients_to_ask_otherwise_and_a_broken_answer_is_not() -> None:
    response = message("ModelInferResponse")()
    add_output(response, "x", np.array([b"\xff"], dtype=object))
    with pytest.raises(HttpProblem, match="binary_data"):
        response_of(response.SerializeToString(), Wanted())
    body, length = response_of(response.SerializeToString(), Wanted(True))
    assert length is not None and body[length:] == b"\1\0\0\0\xff"
    response.outputs[0].datatype = "BF16"
    with pytest.raises(HttpProblem, match="BF16"):
        response_of(response.SerializeToString(), Wanted())
    response.outputs[0].datatype = "FP32"
    with pytest.raises(RpcError) as caught:
        response_of(response.SerializeToString(), Wanted())
    assert caught.value.code is Code.INTERNAL


def test_deep_and_broken_documents_are_refused() -> None:
    with pytest.raises(HttpProblem, match="binary"):
        document(b"[" + b"{}," * (LARGEST_JSON // 3) + b"{}]")
    for text in (b"[" * 100_000, b'{"a":' * 100_000, b'{"NaN":' + b"[" * 100_000, b"", b"\xff", b"[]", b'{"a": NaN'):
        with pytest.raises(HttpProblem, match="JSON"):
            document(text)
