"""Tensors that are passed on as they came: name, type, shape and raw contents, none of which is decoded.

Only typed contents, which small clients write, are turned into raw ones: a message has the one kind or the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stillhouse.edge.status import Code, RpcError

__all__ = ["Carried", "of_inputs", "of_outputs", "put_input", "put_output"]


@dataclass(frozen=True, slots=True)
class Carried:
    """A tensor on its way. `raw` are its bytes as the protocol has them; nobody has looked whether they fit the shape."""

    datatype: str
    shape: tuple[int, ...]
    raw: bytes


def of_inputs(request: Any) -> dict[str, Carried]:
    """Return the tensors of a `ModelInferRequest` by name.

    Raises:
        RpcError: INVALID_ARGUMENT; a tensor is there twice, or its contents are not.
    """
    return _carried(request.inputs, request.raw_input_contents)


def of_outputs(response: Any) -> dict[str, Carried]:
    """Return the tensors of a `ModelInferResponse` by name.

    Raises:
        RpcError: as of inputs.
    """
    return _carried(response.outputs, response.raw_output_contents)


def _carried(tensors: Any, raw: Any) -> dict[str, Carried]:
    if not raw and len(tensors):
        return _typed(tensors)
    if len(raw) != len(tensors):
        raise RpcError(Code.INVALID_ARGUMENT, f"{len(raw)} of {len(tensors)} tensors have raw contents; all or none")
    found = {each.name: Carried(each.datatype, tuple(each.shape), bytes_) for each, bytes_ in zip(tensors, raw, strict=True)}
    if len(found) != len(tensors):
        raise RpcError(Code.INVALID_ARGUMENT, "a tensor is given twice")
    return found


def _typed(tensors: Any) -> dict[str, Carried]:
    import numpy as np  # here: most requests are raw, and need none

    from stillhouse.edge.oip.tensors import datatype_of, packed_bytes, typed_of

    found: dict[str, Carried] = {}
    for name, array in typed_of(tensors).items():
        datatype = datatype_of(array)
        if datatype == "BYTES":
            raw = packed_bytes(list(array.reshape(-1)))
        else:
            raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        found[name] = Carried(datatype, array.shape, raw)
    return found


def put_input(request: Any, name: str, tensor: Carried) -> None:
    """Put a tensor into a `ModelInferRequest`."""
    request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
    request.raw_input_contents.append(tensor.raw)


def put_output(response: Any, name: str, tensor: Carried) -> None:
    """Put a tensor into a `ModelInferResponse`."""
    response.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
    response.raw_output_contents.append(tensor.raw)
