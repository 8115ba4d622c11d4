"""Requests as they come from anybody: read or refused, cut and written anew without a loss."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.cascades import SIGNATURE, ask_body

from stillhouse.edge.cascade.question import Reader
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import inputs_of
from stillhouse.edge.status import Code, RpcError
from stillhouse.inference.signature import FeatureSpec, ImageSpec, Signature

READER = Reader(SIGNATURE, 32, searched=False)
REQUEST = message("ModelInferRequest")
WHOLE = ask_body(["a", "bc", "", "ü"], "LABEL", "LEG", parameters={"trace": True, "provenance": True})


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.integers(0, len(WHOLE)), st.binary(max_size=8))
@example(0, 0, 0, b"")
@settings(max_examples=400, deadline=None)
def test_noise_is_read_or_refused(at: int, value: int, cut: int, more: bytes) -> None:
    body = WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :]
    body = body[:cut] + more + body[cut:]
    with contextlib.suppress(RpcError):
        question = READER.read(body, ())
        assert 1 <= question.rows <= 32 and set(question.outputs) <= set(READER.known)
        assert len(question.work) == question.rows
        assert inputs_of(REQUEST.FromString(question.part(np.array([0])).written("x", "", ["LABEL"], {})))["TEXT"].shape == (1, 1)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=9), st.data())
@settings(max_examples=100, deadline=None)
def test_a_part_is_its_rows_and_a_whole_is_itself(texts: list[str], data: Any) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1), min_size=1)))
    question = READER.read(ask_body(texts, parameters={"trace": True, "kept": True}), ())
    part = question.part(np.array(rows))
    assert part.work == [texts[row] for row in rows]
    written = REQUEST.FromString(part.written("large", "3", ["scores"], {"TEXT": "words"}))
    assert (written.model_name, written.model_version, written.id) == ("large", "3", "7")
    assert [each.name for each in written.outputs] == ["scores"] and set(written.parameters) == {"kept"}
    assert inputs_of(written)["words"].ravel().tolist() == [texts[row].encode() for row in rows]
    again = part.part(np.array([len(rows) - 1]))
    assert again.work == [texts[rows[-1]]], "of a part, a part"


def test_typed_contents_are_cut_too() -> None:
    request = REQUEST(model_name="m")
    tensor = request.inputs.add(name="TEXT", datatype="BYTES", shape=[2, 1])
    tensor.contents.bytes_contents.extend([b"a", b"b"])
    part = READER.read(request.SerializeToString(), ()).part(np.array([1]))
    assert part.work == ["b"]
    assert inputs_of(REQUEST.FromString(part.written("x", "", [], {})))["TEXT"].ravel().tolist() == [b"b"]


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        (
            "IMAGE",
            Signature("image-classification", ("x",), "y", 2, ("a", "b"), image=ImageSpec(2, 4, 3, (0, 0, 0), (1, 1, 1))),
        ),
        ("FEATURES", Signature("tabular-classification", ("x",), "y", 2, ("a", "b"), features=FeatureSpec((2,), ("p", "q")))),
        ("FEATURES", Signature("time-series-classification", ("x",), "y", 2, ("a", "b"), features=FeatureSpec((5, 3)))),
    ],
    ids=["image", "table", "series"],
)
def test_arrays_are_as_the_model_has_them(name: str, signature: Signature) -> None:
    reader = Reader(signature, 8, searched=False)
    values = np.arange(2 * np.prod(signature.shape), dtype=np.float32).reshape(2, *signature.shape)
    request = REQUEST(model_name="m", raw_input_contents=[values.tobytes()])
    request.inputs.add(name=name, datatype="FP32", shape=values.shape)
    part = reader.read(request.SerializeToString(), ()).part(np.array([1]))
    np.testing.assert_array_equal(part.work, values[1:])
    request.inputs[0].shape[-1] += 1
    try:
        reader.read(request.SerializeToString(), ())
    except RpcError as error:
        assert error.code == Code.INVALID_ARGUMENT and f"[n, {str(list(signature.shape))[1:]}" in error.message
    else:
        raise AssertionError("another shape is another model's")
