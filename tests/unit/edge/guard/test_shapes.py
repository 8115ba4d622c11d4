"""Requests against a model's metadata: what is let through, and what each refusal names."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.edge.guard.refusals import Refusal
from stillhouse.edge.guard.shapes import Bounds, Input, Model, Request, Tensor, check
from stillhouse.edge.oip.elements import Malformed, split
from stillhouse.inference.typenames import SIZES

MODEL = Model([Input("text", "BYTES", (-1, 1), text=True), Input("scale", "FP32", (-1, 2, -1), optional=True)], max_batch=8)
BOUNDS = Bounds(message=10_000, dimension=100, elements=1000, characters=20)


def packed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


def text(*elements: bytes, shape: tuple[int, ...] | None = None, raw: bytes | None = None, **other: Any) -> Tensor:
    raw = packed(*elements) if raw is None else raw
    return Tensor(
        **{"name": "text", "datatype": "BYTES", "shape": shape or (len(elements), 1), "raw_length": len(raw), "raw": raw, **other}
    )


def scale(shape: tuple[int, ...], length: int, datatype: str = "FP32") -> Tensor:
    return Tensor("scale", datatype, shape, raw_length=length)


def verdict(*inputs: Tensor, size: int = 100, raws: int | None = None, model: Model = MODEL) -> Refusal | dict[str, Any]:
    raws = sum(each.raw_length is not None for each in inputs) if raws is None else raws
    return check(Request(size, inputs, raws), model, BOUNDS)  # type: ignore[return-value]


def test_what_is_right_comes_back_split() -> None:
    assert verdict(text(b"one", "zw\u00f6lf".encode())) == {"text": [b"one", "zw\u00f6lf".encode()]}
    assert verdict(text(b"a"), scale((1, 2, 3), 24)) == {"text": [b"a"]}
    assert verdict(Tensor("text", "BYTES", (2, 1), strings=[b"a", b"b"])) == {"text": [b"a", b"b"]}
    typed = Tensor("scale", "FP32", (1, 2, 1), count=2)
    assert verdict(Tensor("text", "BYTES", (1, 1), strings=[b""]), typed) == {"text": [b""]}


WRONG: dict[str, tuple[list[Tensor], dict[str, Any], str, str, str]] = {
    "message": ([text(b"a")], {"size": 10_001}, "request", "10001 bytes", "10000 bytes"),
    "too many inputs": ([text(b"a")] * 3, {}, "inputs", "3", "2"),
    "unknown input": ([text(b"a", name="other")], {}, "inputs[0].name", "'other'", "text, scale"),
    "twice": ([text(b"a"), text(b"a")], {}, "inputs[1].name", "'text'", "each input once"),
    "missing": ([scale((1, 2, 1), 8)], {}, "inputs", "'scale'", "text"),
    "none": ([], {}, "inputs", "none", "text"),
    "datatype": ([text(b"a", datatype="FP32")], {}, "inputs[0].datatype", "'FP32'", "BYTES"),
    "rank": ([text(b"a", shape=(1,))], {}, "inputs[0].shape", "1 dimensions", "['1 to 8', 1]"),
    "batch": ([text(*[b"a"] * 9)], {}, "inputs[0].shape[0]", "9", "1 to 8"),
    "no batch": ([text(b"a", shape=(0, 1))], {}, "inputs[0].shape[0]", "0", "1 to 8"),
    "negative": ([text(b"a", shape=(-1, 1))], {}, "inputs[0].shape[0]", "-1", "1 to 8"),
    "fixed": ([text(b"a", shape=(1, 2))], {}, "inputs[0].shape[1]", "2", "1"),
    "giant": ([text(b"a"), scale((1, 2, 2**63 - 1), 8)], {}, "inputs[1].shape[2]", str(2**63 - 1), "1 to 100"),
    "least": ([text(b"a"), scale((1, 2, -(2**63)), 8)], {}, "inputs[1].shape[2]", str(-(2**63)), "1 to 100"),
    "product": ([text(*[b"a"] * 8), scale((8, 2, 100), 6400)], {}, "inputs[1].shape", "[8, 2, 100]", "1000 elements"),
    "other batch": ([text(b"a"), scale((2, 2, 1), 16)], {}, "inputs[1].shape", "2", "1"),
    "raw length": ([text(b"a"), scale((1, 2, 3), 23)], {}, "raw_input_contents", "23 bytes", "24 bytes"),
    "raw entries": ([text(b"a")], {"raws": 2}, "raw_input_contents", "2 entries", "1 entries"),
    "mixed": ([text(b"a"), Tensor("scale", "FP32", (1, 2, 1), count=2)], {}, "raw_input_contents", "1 of 2", "all or none"),
    "both": ([text(b"a", strings=[b"a"])], {}, "inputs[0].contents", "raw and typed", "one of them"),
    "strings": ([Tensor("text", "BYTES", (2, 1), strings=[b"a"])], {}, "inputs[0].contents", "1 elements", "2"),
    "long prefix": ([text(shape=(1, 1), raw=b"\xff\xff\xff\xffab")], {}, "raw_input_contents", "4294967295 bytes", "at most 2"),
    "short": ([text(shape=(2, 1), raw=packed(b"abcd"))], {}, "raw_input_contents", "1 elements in 8 bytes", "2 elements"),
    "rest": ([text(shape=(1, 1), raw=packed(b"a", b"b"))], {}, "raw_input_contents", "5 bytes", "none after 1 elements"),
    "empty": ([text(shape=(1, 1), raw=b"")], {}, "raw_input_contents", "0 bytes", "at least 4 for each of 1 elements"),
    "characters": ([text(b"a", b"b" * 21)], {}, "inputs[0][1]", "21 characters", "20 characters"),
    "bytes": ([text(b"b" * 81)], {}, "inputs[0][0]", "81 bytes", "20 characters"),
    "no text": ([text(b"a\xff")], {}, "inputs[0][0]", "byte 1: invalid start byte", "UTF-8 text"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_refusal_names_the_field_what_was_found_and_what_is_allowed(name: str) -> None:
    inputs, other, field, found, allowed = WRONG[name]
    refusal = verdict(*inputs, **other)
    assert isinstance(refusal, Refusal)
    assert (refusal.problem.field, refusal.problem.found, refusal.problem.allowed) == (field, found, allowed)
    assert (refusal.status, refusal.retry_after) == ("INVALID_ARGUMENT", None)


def test_characters_are_counted_and_not_bytes() -> None:
    assert isinstance(verdict(text("\U0001f600".encode() * 20)), dict)
    assert isinstance(verdict(text("\U0001f600".encode() * 21)), Refusal)


@pytest.mark.parametrize("datatype", [name for name, size in SIZES.items() if size])
def test_the_size_of_every_data_type(datatype: str) -> None:
    sizes = {"BOOL": 1, "BF16": 2, "FP16": 2}
    size = sizes.get(datatype) or int("".join(each for each in datatype if each.isdigit())) // 8
    model = Model([Input("x", datatype, (3, -1))])
    for length in range(3 * size * 4 + 2):
        answer = verdict(Tensor("x", datatype, (3, 4), raw_length=length), model=model)
        assert isinstance(answer, dict) == (length == 12 * size)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_halves_have_no_typed_field(datatype: str) -> None:
    model = Model([Input("x", datatype, (1,))])
    assert isinstance(verdict(Tensor("x", datatype, (1,), count=1), model=model), Refusal)


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_splitting_is_the_inverse_of_packing(elements: list[bytes]) -> None:
    assert split(packed(*elements), len(elements)) == elements
    assert split(memoryview(packed(*elements)), len(elements)) == elements


@given(st.binary(max_size=60), st.integers(0, 2**40))
def test_whatever_comes_is_split_wholly_or_refused(raw: bytes, count: int) -> None:
    try:
        elements = split(raw, count)
    except Malformed as error:
        assert error.found
        assert error.allowed
    else:
        assert packed(*elements) == raw
        assert len(elements) == count


I64 = st.one_of(st.integers(-3, 12), st.integers(-(2**63), 2**63 - 1))


@given(
    st.lists(
        st.builds(
            Tensor,
            st.sampled_from(["text", "scale", "x\n", ""]),
            st.sampled_from([*SIZES, "", "bytes"]),
            st.lists(I64, max_size=4).map(tuple),
            st.one_of(st.none(), st.integers(0, 100)),
            st.none(),
            st.one_of(st.none(), st.integers(0, 2**31)),
            st.one_of(st.none(), st.lists(st.binary(max_size=4), max_size=3)),
        ).map(
            lambda each: Tensor(
                each.name, each.datatype, each.shape, each.raw_length, bytes(each.raw_length or 0), each.count, each.strings
            )
        ),
        max_size=4,
    ),
    st.integers(0, 5),
)
def test_whatever_comes_gets_an_answer_of_one_line(inputs: list[Tensor], raws: int) -> None:
    answer = check(Request(100, inputs, raws), MODEL, BOUNDS)
    if isinstance(answer, Refusal):
        assert str(answer).isprintable()
        assert len(str(answer)) < 500
    else:
        for tensor in inputs:
            assert all(1 <= dimension <= 100 for dimension in tensor.shape)


def test_bytes_that_the_caller_forgot_are_no_clients_mistake() -> None:
    with pytest.raises(ValueError, match="bytes are needed"):
        verdict(Tensor("text", "BYTES", (1, 1), raw_length=5))


@pytest.mark.parametrize("given", [Input("x", "FP8", (1,)), Input("x", "FP32", ())])
def test_metadata_that_contradicts_itself(given: Input) -> None:
    with pytest.raises(ValueError, match="input x has"):
        Model([given], max_batch=4)


def test_a_scalar_without_a_batch() -> None:
    model = Model([Input("x", "INT64", ())])
    assert verdict(Tensor("x", "INT64", (), raw_length=8), model=model) == {}
    assert isinstance(verdict(Tensor("x", "INT64", (1,), raw_length=8), model=model), Refusal)
