"""What a stranger's bytes meet first, each as one function of bytes. A finding is whatever such a function raises.

Answers that a client gets (RpcError, HttpProblem) are no findings; nor is anything that the function takes. `seeds` gives each
what is nearly right, from which a fuzzer goes on. The unit tests run the same functions on a bounded sample.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from httpunk import HeaderMap

from stillhouse.edge.guard.audit.records import GENESIS, BadRecord, Key, encode, parse
from stillhouse.edge.guard.clients import bearer
from stillhouse.edge.guard.patterns import Patterns, Rule
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.edge.guard.shapes import Bounds, Input, Model, check
from stillhouse.edge.oip.carried import of_inputs
from stillhouse.edge.oip.elements import Malformed, joined, split
from stillhouse.edge.oip.encodings import add_encoded, made_plain
from stillhouse.edge.oip.marked import is_encoded
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.outline import _count, bounded
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import decoded, inputs_of, outputs_of
from stillhouse.edge.rest.bodies import document, parted
from stillhouse.edge.rest.inference import Wanted, request_of, response_of
from stillhouse.edge.rest.problems import HttpProblem
from stillhouse.edge.screening.reading import itself, rewritten, seen
from stillhouse.edge.screening.settings import ScreenSettings
from stillhouse.edge.status import RpcError, packed, unpacked
from stillhouse.edge.tracing.context import context_of, passed_on
from stillhouse.edge.wire.framing import Deframer, framed, single
from stillhouse.edge.wire.headers import metadata_of, pairs, timeout_of
from stillhouse.inference.encodings import Encoding
from stillhouse.inference.typenames import SIZES

__all__ = ["TARGETS", "seeds"]

Target = Callable[[bytes], None]

_REQUEST, _RESPONSE = message("ModelInferRequest"), message("ModelInferResponse")
_LARGEST = 1 << 16
_MODEL = Model(
    [Input("TEXT", "BYTES", (-1, 1), text=True), Input("x", "FP32", (-1, 3), optional=True), Input("i", "INT8", (-1, 2), True)], 8
)
_BOUNDS = Bounds(message=_LARGEST, dimension=1000, elements=10_000, characters=500)
_PATTERNS = Patterns(
    [Rule(name, "mask") for name in ("email", "card", "iban", "phone")] + [Rule("own", "mask", r"(?i)tck-\d{2,8}|\bx+y*\b")]
)
_SETTINGS = ScreenSettings()
_KEY = Key(b"k" * 32)
_TYPES = (*SIZES, "", "FP8")


def request(data: bytes) -> None:
    """Read tensors of a request, as a model in this process does; and carry them on as they came."""
    try:
        found = parsed(_REQUEST, data)
        tensors = inputs_of(found)
        carried = of_inputs(found)
        assert tensors.keys() == carried.keys()
    except RpcError:
        pass


def response(data: bytes) -> None:
    """Read a backend's answer, and tell it as JSON."""
    with contextlib.suppress(RpcError):
        outputs_of(parsed(_RESPONSE, data))
    try:
        text, length = response_of(data, Wanted())
        assert length is None
        json.loads(text)
    except (RpcError, HttpProblem):
        pass


def outline(data: bytes) -> None:
    """Parts are counted without an end beyond the data; what protobuf reads is never called broken."""
    try:
        bounded(data)
        _count(data, 0, len(data), 0, nested=True)
    except RpcError as error:
        if "more than" in error.message:
            return
        try:
            parsed(_REQUEST, data)
        except RpcError:
            return
        if b"\x0b" not in data and not any(each & 7 in (3, 4) for each in data):  # groups, which protobuf skips
            raise AssertionError(f"protobuf reads what is called broken: {error.message}") from error


def tensor(data: bytes) -> None:
    """Raw contents of a type and a shape; the first bytes say which."""
    if len(data) < 2:
        return
    rank = data[1] % 5
    head = data[2 : 2 + 8 * rank]
    shape = list(struct.unpack(f"<{len(head) // 8}q", head[: len(head) // 8 * 8]))
    if data[1] & 0x80:
        shape = [each % 7 for each in shape]
    try:
        found = decoded("x", _TYPES[data[0] % len(_TYPES)], shape, data[2 + 8 * rank :])
        assert found.shape == tuple(shape)
    except RpcError:
        pass


def elements(data: bytes) -> None:
    """Packed bytes come apart into what packs to them again."""
    try:
        found = split(data, next(iter(data), 0) if len(data) % 2 else 3)
    except Malformed:
        return
    assert joined(found) == data


def shapes(data: bytes) -> None:
    """Hold a request to a model's words, mask and write it again: it still fits, with just the texts that it should have."""
    try:
        found = parsed(_REQUEST, data)
        if is_encoded(found):
            made_plain(found, _LARGEST)
    except RpcError:
        return
    for model in (_MODEL, itself(found, _SETTINGS)):
        told = seen(found, len(data), len(model.inputs))
        fits = told if isinstance(told, Refusal) else check(told, model, _BOUNDS)
        if isinstance(fits, Refusal):
            assert len(str(fits)) < 5000
            continue
        masked = {}
        for name, texts in fits.items():
            if model.inputs[name].text:
                screened = [_PATTERNS.screen(text.decode("utf-8", "replace")) for text in texts]
                masked[name] = [each.text.encode() for each in screened if not isinstance(each, Refusal)]
                if len(masked[name]) != len(texts):
                    return
        again = parsed(_REQUEST, rewritten(found, masked))
        told = seen(again, 0, len(model.inputs))
        assert not isinstance(told, Refusal)
        kept = check(told, model, Bounds(elements=_BOUNDS.elements, dimension=_BOUNDS.dimension, characters=10_000))
        assert not isinstance(kept, Refusal)
        assert {name: list(kept[name]) for name in masked} == masked


def encoded(data: bytes) -> None:
    """Decode a tensor that travels in a way of ours: its parameters and bytes are the data."""
    parts = data.split(b"|", 6)
    if len(parts) < 7:
        return
    found = _REQUEST()
    words = [each.decode("utf-8", "ignore") for each in parts[:6]]
    try:
        shape = [int(each) for each in words[2].split(",") if each][:8]
        put = found.inputs.add(name="x", datatype=words[1][:20], shape=shape)
    except ValueError:
        return
    for key, word in zip(("encoding", "datatype", "scale", "zero"), (words[0], words[3], words[4], words[5]), strict=True):
        put.parameters[f"stillhouse_{key}"].string_param = word
    put.parameters["stillhouse_shape"].string_param = words[2]
    found.raw_input_contents.append(parts[6])
    try:
        made_plain(found, _LARGEST)
        inputs_of(found)
    except RpcError:
        pass


def framing(data: bytes) -> None:
    """Bodies in one piece and in many give the same messages, whole and no larger than is allowed."""
    if not data:
        return
    encoding = ("identity", "gzip", "deflate")[data[0] % 3]
    body, step = data[2:], 1 + (data[1] if len(data) > 1 else 0)

    def read(pieces: list[bytes]) -> list[bytes] | None:
        deframer, found = Deframer(encoding, _LARGEST), []
        try:
            for piece in pieces:
                found += deframer.feed(piece)
            deframer.end()
        except RpcError:
            return None
        return found

    whole = read([body])
    assert whole == read([body[at : at + step] for at in range(0, len(body), step)])
    assert whole is None or all(len(each) <= _LARGEST for each in whole)
    try:
        one = single(body, encoding, _LARGEST)
        assert whole == [one]
    except RpcError:
        assert whole is None or len(whole) != 1


def headers(data: bytes) -> None:
    """Headers of a peer: time left, metadata, tokens, trace contexts, words of a status; and what we would send of them."""
    with contextlib.suppress(RpcError):
        timeout_of(data[:40])
    bearer(data)
    told = unpacked(data.decode("latin-1"))
    assert unpacked(packed(told[:500])) == told[:500].encode("utf-8", "replace").decode()
    lines = [each.partition(b":") for each in data.split(b"\n")[:20]]
    found = [(name.decode("latin-1").lower(), value) for name, _, value in lines if name]
    try:
        metadata = metadata_of(found)
        HeaderMap(pairs(metadata))
        passed_on(metadata)
        context_of(metadata)
    except RpcError:
        pass


def rest(data: bytes) -> None:
    """JSON and binary tensors to a request, which is one that tensors can be read from or not."""
    parts = data.split(b"\xff\xfe", 1)
    try:
        text, binary = parted(parts[0] + (parts[1] if len(parts) > 1 else b""), str(len(parts[0])).encode())
        document(text)
        found, _ = request_of("m", "", text, binary)
        inputs_of(found)
    except (HttpProblem, RpcError):
        pass


def record(data: bytes) -> None:
    """Read a line of an audit log: it is a record that would be written so, or none."""
    try:
        found = parse(data)
    except BadRecord:
        return
    line, _ = encode(found.seq, found.time, found.kind, found.data, found.prev, None)
    assert found.mac or line == data


def patterns(data: bytes) -> None:
    """Texts through the patterns: what is masked is found no more."""
    text = data.decode("utf-8", "replace")
    found = _PATTERNS.screen(text)
    if not isinstance(found, Refusal) and not found.masked:
        assert found.text == text


TARGETS: Mapping[str, Target] = {
    each.__name__: each
    for each in (request, response, outline, tensor, elements, shapes, encoded, framing, headers, rest, record, patterns)
}


def seeds(name: str) -> list[bytes]:
    """Return what a fuzzer of a target begins with."""
    return list(_SEEDS[name]())


def _requests() -> list[bytes]:
    found = []
    for text, typed in itertools.product(("plain", "jane@example.org 4111 1111 1111 1111", "é✓"), (False, True)):
        one = _REQUEST(model_name="m", id="7")
        one.parameters["priority"].int64_param = 1
        put = one.inputs.add(name="TEXT", datatype="BYTES", shape=[2, 1])
        if typed:
            put.contents.bytes_contents.extend([text.encode(), b""])
        else:
            one.raw_input_contents.append(joined([text.encode(), b""]))
        one.outputs.add(name="y").parameters["classification"].int64_param = 2
        found.append(one.SerializeToString())
    one = _REQUEST(model_name="m")
    one.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1])
    one.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    one.inputs.add(name="i", datatype="INT8", shape=[1, 2])
    one.raw_input_contents.extend([joined([b"x"]), b"\0" * 12, b"\1\2"])
    found.append(one.SerializeToString())
    typed_one = _REQUEST(model_name="m")
    typed_one.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    typed_one.inputs.add(name="i", datatype="INT8", shape=[1, 2]).contents.int_contents.extend([1, -1])
    found.append(typed_one.SerializeToString())
    small = _REQUEST(model_name="m")
    add_encoded(small, "x", np.ones((1, 3), np.float32), Encoding.parse("fp16", "x"))
    found.append(small.SerializeToString())
    return found


def _responses() -> list[bytes]:
    one = _RESPONSE(model_name="m", id="7")
    one.parameters["confidence"].double_param = 0.5
    one.outputs.add(name="y", datatype="FP32", shape=[1, 2])
    one.outputs.add(name="t", datatype="BYTES", shape=[1])
    one.raw_output_contents.extend([struct.pack("<2f", 1, float("nan")), joined([b"label"])])
    typed = _RESPONSE(model_name="m")
    typed.outputs.add(name="y", datatype="FP64", shape=[1]).contents.fp64_contents.append(1.5)
    return [one.SerializeToString(), typed.SerializeToString()]


def _tensors() -> list[bytes]:
    return [bytes([number, 0x80 | 2]) + struct.pack("<2q", 1, 2) + b"\1\0\0\0x\0\0\0\0" * 2 for number in range(len(_TYPES))] + [
        bytes([11, 2]) + struct.pack("<2q", 2**62, 2**62),
        bytes([0, 3]) + struct.pack("<3q", 0, 2**40, 2**40),
    ]


def _bodies() -> list[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(b"\0" * 300_000) + packer.flush()
    plain = [b"\0\7" + framed(b"hello"), b"\0\1" + framed(b"") + framed(b"two")]
    flagged = [(b"\1\3", gzip.compress(b"hello")), (b"\1\3", bomb), (b"\2\3", zlib.compress(b"hello"))]
    return plain + [head + b"\1" + len(each).to_bytes(4, "big") + each for head, each in flagged]


def _documents() -> list[bytes]:
    tensors: list[Any] = [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, 2]]},
        {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "é"]},
        {"name": "i", "datatype": "INT8", "shape": [2], "data": [1, -128]},
        {"name": "b", "datatype": "BOOL", "shape": [1], "data": [True]},
    ]
    one = {
        "id": "7",
        "parameters": {"p": 1, "q": 0.5},
        "inputs": tensors,
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    binary = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}
    return [
        json.dumps(one).encode(),
        json.dumps(binary).encode() + b"\xff\xfe\0\0\0\0",
        b'{"inputs": [{"data": [NaN, Infinity]}]}',
    ]


def _records() -> list[bytes]:
    data = {"client": "a", "n": 1, "text": "é\n"}
    return [encode(1, "2026-11-26T08:00:00.000000Z", "request", data, GENESIS, key)[0] for key in (None, _KEY)]


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "request": _requests,
    "response": _responses,
    "outline": _requests,
    "tensor": _tensors,
    "elements": lambda: [joined([b"a", b"", b"ccc"]), b"\3" + joined([b"a", b"b"]), b"\xff\xff\xff\xff"],
    "shapes": _requests,
    "encoded": lambda: [
        b"fp16|FP16|1,2|FP32|||\0\0\0\0",
        b"int8|INT8|1,2|FP32|0.5|3|\1\2",
        b"zstd|UINT8|9|FP32|||" + b"(\xb5/\xfd" * 3,
    ],
    "framing": _bodies,
    "headers": lambda: [
        b"1S",
        b"99999999n",
        b"Bearer abc",
        b"a-bin: AAEC,AAE=\nkey: value\ntraceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
        b"tracestate: a=1,b=2\nbaggage: k=v",
        b"grpc-message: 100%25 %E2%9C%93",
    ],
    "rest": _documents,
    "record": _records,
    "patterns": lambda: [
        b"jane@example.org",
        b"4111 1111 1111 1111",
        b"DE89 3704 0044 0532 0130 00",
        b"+49 (0)30 123456",
        b"tck-1234 xxxyy",
    ],
}
