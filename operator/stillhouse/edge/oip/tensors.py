"""Tensors of a request or an answer, to and from numpy. Both ways of the protocol: raw contents, and typed ones.

Datatypes are the protocol's (BOOL … FP64, BYTES). BYTES are arrays of `object` that hold `bytes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stillhouse.edge.oip.elements import Malformed, joined, split
from stillhouse.edge.oip.fields import FIELDS
from stillhouse.edge.status import Code, RpcError
from stillhouse.inference.datatypes import DTYPES, Tensor, datatype_name

__all__ = [
    "DTYPES", "add_input", "add_output", "datatype_of", "decoded", "inputs_of", "outputs_of", "packed_bytes", "raw_of",
    "typed_of", "unpacked_bytes",
]  # fmt: skip

_MOST_DIMENSIONS = 32
"""numpy's own."""


def inputs_of(request: Any) -> dict[str, Tensor]:
    """Return the tensors of a `ModelInferRequest` by name.

    Raises:
        RpcError: INVALID_ARGUMENT; what is wrong with which tensor.
    """
    return _tensors(request.inputs, request.raw_input_contents)


def outputs_of(response: Any) -> dict[str, Tensor]:
    """Return the tensors of a `ModelInferResponse` by name.

    Raises:
        RpcError: as of inputs.
    """
    return _tensors(response.outputs, response.raw_output_contents)


def typed_of(tensors: Any) -> dict[str, Tensor]:
    """Return tensors that have typed contents, of a request or an answer, by name.

    Raises:
        RpcError: as of inputs.
    """
    return _tensors(tensors, ())


def _tensors(tensors: Any, raw: Any) -> dict[str, Tensor]:
    if raw and len(raw) != len(tensors):
        raise _wrong("raw contents", f"{len(raw)} of {len(tensors)} tensors have them; all or none")
    found: dict[str, Tensor] = {}
    for position, tensor in enumerate(tensors):
        if tensor.name in found:
            raise _wrong(tensor.name, "is given twice")
        if raw:
            found[tensor.name] = decoded(tensor.name, tensor.datatype, tensor.shape, raw[position])
        else:
            found[tensor.name] = _typed(tensor)
    return found


def decoded(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """Return a tensor from raw contents (little endian, row major). It may share their memory: it is read-only.

    Raises:
        RpcError: INVALID_ARGUMENT; type, shape and bytes do not fit together.
    """
    count = _count(name, shape)
    if datatype == "BYTES":
        return _objects(unpacked_bytes(name, raw, count), shape)
    kind = DTYPES.get(datatype)
    if kind is None:
        raise _wrong(name, f"datatype {datatype[:20]!r}: {', '.join(DTYPES)} and BYTES are known")
    size = kind.itemsize
    if len(raw) != count * size:
        raise _wrong(name, f"{len(raw)} bytes, shape {list(shape)} of {datatype} needs {count * size}")
    return np.frombuffer(raw, dtype=kind.newbyteorder("<")).reshape(shape)


def _typed(tensor: Any) -> Tensor:
    field = FIELDS.get(tensor.datatype)
    if field is None:
        raise _wrong(tensor.name, f"datatype {tensor.datatype[:20]!r} has no typed contents")
    values = getattr(tensor.contents, field)
    count = _count(tensor.name, tensor.shape)
    if len(values) != count:
        raise _wrong(tensor.name, f"{len(values)} values in {field}, shape {list(tensor.shape)} needs {count}")
    if tensor.datatype == "BYTES":
        return _objects(list(values), tensor.shape)
    kind = DTYPES[tensor.datatype]
    array = np.array(values, dtype=np.int64 if kind.kind in "iu" and kind.itemsize < 8 else kind)
    if kind.kind in "iu" and kind.itemsize < 8:
        limits = np.iinfo(kind)
        if count and (array.min() < limits.min or array.max() > limits.max):
            raise _wrong(tensor.name, f"a value does not fit into {tensor.datatype}")
    return array.astype(kind, copy=False).reshape(tuple(tensor.shape))


def _count(name: str, shape: Sequence[int]) -> int:
    if any(each < 0 for each in shape):
        raise _wrong(name, f"shape {list(shape)[:16]} has a negative dimension")
    if len(shape) > _MOST_DIMENSIONS:  # before anything is multiplied
        raise _wrong(name, f"{len(shape)} dimensions, at most {_MOST_DIMENSIONS} are allowed")
    # Python's integers: no overflow can make a giant small. A zero hides no giant beside it, of which numpy makes no array.
    if math.prod(each or 1 for each in shape) > 1 << 31:
        raise _wrong(name, f"shape {list(shape)[:16]} has more than 2^31 elements")
    return math.prod(shape)


def unpacked_bytes(name: str, raw: bytes, count: int) -> list[bytes]:
    """Return the elements of a BYTES tensor: each has its length before it, four bytes, little endian.

    Raises:
        RpcError: INVALID_ARGUMENT; the lengths and the bytes do not fit together.
    """
    try:
        return split(raw, count)
    except Malformed as error:
        raise _wrong(name, f"{error}: {error.found}, {error.allowed}") from error


def packed_bytes(values: Sequence[bytes]) -> bytes:
    """Return the raw contents of a BYTES tensor."""
    return joined(values)


def _objects(values: list[bytes], shape: Sequence[int]) -> Tensor:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(tuple(shape))


def datatype_of(tensor: Tensor) -> str:
    """Return the protocol's name of an array's type.

    Raises:
        ValueError: it has none.
    """
    name = datatype_name(tensor)
    if name is None:
        raise ValueError(f"the protocol has no type for {tensor.dtype}")
    return name


def add_input(request: Any, name: str, tensor: Tensor) -> Any:
    """Put a tensor into a `ModelInferRequest`, as raw contents; return its part of the message."""
    request.raw_input_contents.append(raw_of(tensor))
    return request.inputs.add(name=name, datatype=datatype_of(tensor), shape=tensor.shape)


def add_output(response: Any, name: str, tensor: Tensor) -> None:
    """Put a tensor into a `ModelInferResponse`, as raw contents."""
    response.raw_output_contents.append(raw_of(tensor))
    response.outputs.add(name=name, datatype=datatype_of(tensor), shape=tensor.shape)


def raw_of(tensor: Tensor) -> bytes:
    """Return the raw contents of a tensor, little endian."""
    if tensor.dtype == object:
        return packed_bytes(list(tensor.reshape(-1)))
    return np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<")).tobytes()


def _wrong(name: str, what: str) -> RpcError:
    return RpcError(Code.INVALID_ARGUMENT, f"{name[:100]}: {what}")
