"""Tensors that travel smaller: what comes back, how far it is from what went, and what nobody unpacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stillhouse.edge.oip.encodings import add_encoded, is_encoded, made_plain
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import inputs_of
from stillhouse.edge.status import Code, RpcError
from stillhouse.errors import DataError
from stillhouse.inference.encodings import Encoding, encode

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)


def sent(tensor: np.ndarray, how: str) -> Any:
    """A request with the tensor between two plain ones, written and read."""
    request = message("ModelInferRequest")(model_name="m")
    add_encoded(request, "A", np.arange(3), Encoding())
    add_encoded(request, "X", tensor, Encoding.parse(how, "") if how else Encoding())
    add_encoded(request, "T", np.array([b"text"], dtype=object), Encoding())
    return message("ModelInferRequest").FromString(request.SerializeToString())


def there_and_back(tensor: np.ndarray, how: str) -> np.ndarray:
    request = sent(tensor, how)
    inputs_of(request)  # an honest request of the protocol, as it travels
    made_plain(request)
    assert not is_encoded(request)
    assert not any(each.parameters for each in request.inputs)
    found = inputs_of(request)
    assert found["A"].tolist() == [0, 1, 2]
    assert found["T"].tolist() == [b"text"]
    assert (found["X"].shape, found["X"].dtype) == (tensor.shape, tensor.dtype)
    return found["X"]


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(st.sampled_from([np.float32, np.int64, np.bool_, np.uint8, np.float64]), SHAPES))
def test_zstandard_and_plain_lose_nothing(tensor: np.ndarray) -> None:
    for how in ("zstd", ""):
        assert there_and_back(tensor, how).tobytes() == tensor.tobytes()


@settings(max_examples=80, deadline=None)
@example(np.float32([-3.4028235e38, 3.4028235e38, 1e38]), False)
@given(arrays.arrays(np.float32, SHAPES, elements=FLOATS), st.booleans())
def test_eight_bits_keep_their_bound(tensor: np.ndarray, zstd: bool) -> None:
    values = tensor.astype(np.float64)
    for how in ("int8", "int8-rows"):
        found = there_and_back(tensor, how + ("+zstd" if zstd else "")).astype(np.float64)
        axes = tuple(range(1, values.ndim)) if how == "int8-rows" and values.ndim else None
        high, low = (side(values, axis=axes, keepdims=True, initial=0.0) for side in (np.max, np.min))
        bound = (high - low) / 255 * 0.5 * (1 + 1e-9) + np.abs(values) * 2.0**-24 + 2.0**-149
        assert (np.abs(found - values) <= bound).all()
        assert (found[values == 0] == 0).all()


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(-65504, 65504, width=32)))
def test_half_precision_keeps_its_bound(tensor: np.ndarray) -> None:
    found = there_and_back(tensor, "fp16").astype(np.float64)
    assert (np.abs(found - tensor) <= np.maximum(np.abs(tensor.astype(np.float64)) * 2.0**-11, 2.0**-25)).all()


@pytest.mark.parametrize(
    ("tensor", "how"),
    [
        (np.float32([1, np.nan]), "int8"),
        (np.float32([np.inf]), "int8-rows"),
        (np.float32([1e5]), "fp16"),
        (np.int64([1]), "int8"),
        (np.float64([1]), "fp16+zstd"),
        (np.array([b"x"], dtype=object), "zstd"),
    ],
)
def test_what_an_encoding_cannot_hold_is_not_sent(tensor: np.ndarray, how: str) -> None:
    with pytest.raises(DataError, match="X"):
        encode("X", tensor, Encoding.parse(how, ""))


def test_a_row_of_its_own_scale_is_not_hurt_by_its_neighbour() -> None:
    tensor = np.float32([[0.1, 0.2, 0.3], [1000, -1000, 3]])
    assert np.abs(there_and_back(tensor, "int8-rows")[0] - tensor[0]).max() < 1e-3
    assert np.abs(there_and_back(tensor, "int8")[0] - tensor[0]).max() > 0.09
    assert len(encode("X", np.zeros((64, 256), np.float32), Encoding("int8", zstd=True)).data) < 64


def put(request: Any, key: str, text: str) -> None:
    request.inputs[1].parameters[f"stillhouse_{key}"].string_param = text


def bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(size))


def without_size() -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(24))


def liar() -> bytes:
    """A frame that says 24 bytes and holds a mebibyte."""
    small, large = bomb(24), bytearray(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20)))
    assert zstandard.frame_content_size(small) == 24
    return small[:6] + bytes(large[6:])


def raw(data: bytes) -> Any:
    def change(request: Any) -> None:
        request.raw_input_contents[1] = data
        del request.inputs[1].shape[:]
        request.inputs[1].shape.append(len(data))

    return change


@pytest.mark.parametrize(
    ("how", "change"),
    [
        ("zstd", raw(bomb(1 << 26))),
        ("zstd", raw(bomb(20))),
        ("zstd", raw(bomb(24) + b"more")),
        ("zstd", raw(bomb(24)[:-2])),
        ("zstd", raw(bomb(12) + bomb(12))),
        ("zstd", raw(without_size())),
        ("zstd", raw(liar())),
        ("zstd", raw(b"")),
        ("zstd", raw(b"\x28\xb5\x2f\xfd")),
        ("zstd", lambda request: put(request, "shape", "9999999999,9999999999")),
        ("zstd", lambda request: put(request, "shape", "-2,-3")),
        ("zstd", lambda request: put(request, "shape", "2,x")),
        ("zstd", lambda request: put(request, "shape", "9" * 5000)),
        ("zstd", lambda request: put(request, "shape", "")),
        ("zstd", lambda request: put(request, "datatype", "FP64")),
        ("zstd", lambda request: put(request, "datatype", "BYTES")),
        ("zstd", lambda request: request.inputs[1].shape.append(1)),
        ("fp16", raw(bytes(11))),
        ("fp16", lambda request: put(request, "datatype", "INT32")),
        ("fp16", lambda request: setattr(request.inputs[1], "datatype", "FP32")),
        ("fp16", lambda request: put(request, "encoding", "fp16+gzip")),
        ("fp16", lambda request: put(request, "encoding", "")),
        ("int8", lambda request: put(request, "scale", "nan")),
        ("int8", lambda request: put(request, "scale", "inf")),
        ("int8", lambda request: put(request, "scale", "-1")),
        ("int8", lambda request: put(request, "scale", "0")),
        ("int8", lambda request: put(request, "scale", "3e38")),
        ("int8", lambda request: put(request, "scale", "1,1")),
        ("int8", lambda request: put(request, "scale", "")),
        ("int8", lambda request: put(request, "scale", "1" * 70_000)),
        ("int8", lambda request: put(request, "zero", "128")),
        ("int8", lambda request: put(request, "zero", "0.5")),
        ("int8", lambda request: put(request, "zero", "9" * 5000)),
        ("int8-rows", lambda request: put(request, "scale", "1")),
        ("int8", lambda request: request.raw_input_contents.pop()),
    ],
)
def test_hostile_requests_are_refused(how: str, change: Any) -> None:
    request = sent(np.ones((2, 3), np.float32), how)
    change(request)
    with pytest.raises(RpcError) as caught:
        made_plain(request)
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert len(caught.value.message) <= 400


def test_all_tensors_together_have_a_limit() -> None:
    request = message("ModelInferRequest")()
    for name in ("A", "B"):
        add_encoded(request, name, np.zeros(1000, np.float32), Encoding("", zstd=True))
    again = message("ModelInferRequest").FromString(request.SerializeToString())
    made_plain(again, 8000)
    with pytest.raises(RpcError, match="B: no such shape"):
        made_plain(request, 7999)
