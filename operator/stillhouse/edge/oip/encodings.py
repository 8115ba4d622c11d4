"""Encoded tensors in a `ModelInferRequest`, and the plain request again.

On the wire an encoded tensor is an honest tensor of the protocol, so that whoever stands between can read its type, shape and
bytes: FP16 or INT8 of the same shape, or with Zstandard UINT8 [bytes]. Its parameters say what it was:
`stillhouse_encoding` (`fp16`, `int8`, `int8-rows`, `zstd`, `fp16+zstd` …), `stillhouse_datatype`, of Zstandard `stillhouse_shape`
("2,128"), of eight bits `stillhouse_scale` and `stillhouse_zero` (numbers with commas between, one or one a row).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from stillhouse.edge.oip.marked import ENCODING, MOST_INPUTS, is_encoded
from stillhouse.edge.oip.tensors import add_input, raw_of
from stillhouse.edge.status import Code, RpcError
from stillhouse.errors import DataError, MissingPackages
from stillhouse.inference.datatypes import ITEM_BYTES, Tensor
from stillhouse.inference.encodings import MOST_BYTES, Encoded, Encoding, decode, encode

__all__ = ["ENCODING", "add_encoded", "is_encoded", "made_plain"]

_DATATYPE, _SHAPE = "stillhouse_datatype", "stillhouse_shape"
_SCALE, _ZERO = "stillhouse_scale", "stillhouse_zero"
_OURS = (ENCODING, _DATATYPE, _SHAPE, _SCALE, _ZERO)
_MOST_TEXT = 1 << 16

N = TypeVar("N", int, float)


def add_encoded(request: Any, name: str, tensor: Tensor, encoding: Encoding) -> None:
    """Put a tensor into a `ModelInferRequest` the smaller way; an encoding that changes nothing leaves it plain.

    Raises:
        DataError: the encoding does not hold it (another type, a value too large or not finite).
    """
    if encoding == Encoding():
        add_input(request, name, tensor)
        return
    made = encode(name, tensor, encoding)
    shape = (len(made.data),) if encoding.zstd else made.shape
    put = request.inputs.add(name=name, datatype="UINT8" if encoding.zstd else made.wire_datatype, shape=shape)
    request.raw_input_contents.append(made.data)
    texts = {ENCODING: str(encoding), _DATATYPE: made.datatype}
    if encoding.zstd:
        texts[_SHAPE] = ",".join(map(str, made.shape))
    if made.scale:
        texts |= {_SCALE: ",".join(map(repr, made.scale)), _ZERO: ",".join(map(str, made.zero))}
    for key, text in texts.items():
        put.parameters[key].string_param = text


def made_plain(request: Any, most_bytes: int = MOST_BYTES) -> None:
    """Decode every encoded tensor of a `ModelInferRequest`, in place: the message is as if they had come plain.

    It belongs behind the limits of size and before whatever reads tensors: guard, steps, model. `most_bytes` are those of all
    decoded tensors together. Where it raises, the request is half done and must be answered with the error.

    Raises:
        RpcError: INVALID_ARGUMENT; what is wrong with which tensor. UNIMPLEMENTED: this installation has no Zstandard.
    """
    if not is_encoded(request):
        return
    if len(request.inputs) > MOST_INPUTS:
        raise RpcError(Code.INVALID_ARGUMENT, f"{len(request.inputs)} inputs; with encoded tensors {MOST_INPUTS} at most")
    if len(request.raw_input_contents) != len(request.inputs):
        raise RpcError(Code.INVALID_ARGUMENT, "encoded tensors travel as raw contents, one for each input")
    left = most_bytes
    for position, tensor in enumerate(request.inputs):
        if ENCODING not in tensor.parameters:
            continue
        try:
            given = _read(tensor, request.raw_input_contents[position])
            values = decode(tensor.name[:100], given, left)
        except MissingPackages as error:
            raise RpcError(Code.UNIMPLEMENTED, f"{tensor.name[:100]}: tensors with zstd are not taken here") from error
        except (DataError, ValueError) as error:
            raise RpcError(Code.INVALID_ARGUMENT, " ".join(str(error).split())[:400]) from error
        left -= values.nbytes
        request.raw_input_contents[position] = raw_of(values)
        tensor.datatype = given.datatype
        del tensor.shape[:]
        tensor.shape.extend(given.shape)
        for key in _OURS:
            tensor.parameters.pop(key, None)


def _read(tensor: Any, data: bytes) -> Encoded:
    """Return what the message says, compared with itself; `decode` compares it with the bytes."""
    name = tensor.name[:100]
    texts = {key: tensor.parameters[key].string_param for key in _OURS if key in tensor.parameters}
    if any(len(text) > _MOST_TEXT for text in texts.values()):
        raise DataError("a parameter is too long", field=name, allowed=f"{_MOST_TEXT} characters")
    encoding = Encoding.parse(texts[ENCODING], f"{name}: {ENCODING}")
    datatype = texts.get(_DATATYPE, "")
    if datatype not in ITEM_BYTES:
        raise DataError("no such datatype", field=f"{name}: {_DATATYPE}", found=datatype[:20], allowed=", ".join(ITEM_BYTES))
    shape = _numbers(texts.get(_SHAPE, ""), int, f"{name}: {_SHAPE}") if encoding.zstd else tuple(tensor.shape)
    given = Encoded(
        encoding,
        datatype,
        shape,
        data,
        _numbers(texts.get(_SCALE, ""), float, f"{name}: {_SCALE}"),
        _numbers(texts.get(_ZERO, ""), int, f"{name}: {_ZERO}"),
    )
    if encoding.zstd:
        honest = tensor.datatype == "UINT8" and list(tensor.shape) == [len(data)]
    else:
        honest = tensor.datatype == given.wire_datatype
    if not honest:
        raise DataError(
            "the tensor's type or shape is not that of its encoding",
            field=name,
            found=f"{tensor.datatype[:20]} {list(tensor.shape)[:16]}",
            allowed=f"UINT8 [{len(data)}]" if encoding.zstd else given.wire_datatype,
        )
    return given


def _numbers(text: str, kind: Callable[[str], N], field: str) -> tuple[N, ...]:
    try:
        return tuple(kind(each) for each in text.split(",")) if text else ()
    except ValueError:
        raise DataError("numbers with commas between belong here", field=field, found=text[:40]) from None
