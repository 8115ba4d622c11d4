"""A `ModelInferRequest` as the guard looks at it, and back into one when texts were masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.edge.guard.refusals import Refusal, invalid, shown
from stillhouse.edge.guard.shapes import Model, Request, Tensor
from stillhouse.edge.oip.elements import joined
from stillhouse.edge.oip.fields import FIELDS
from stillhouse.edge.screening.settings import ScreenSettings
from stillhouse.inference.typenames import SIZES

__all__ = ["itself", "rewritten", "seen"]

_ALL_FIELDS = tuple(dict.fromkeys(FIELDS.values()))
_ELSEWHERE = "shared_memory"
"""Triton's extensions: contents that lie in the server's memory, not in the request."""


def seen(request: Any, size: int, most: int) -> Request | Refusal:
    """Return what the guard checks of a request of `size` bytes to a model of `most` inputs, or why it does not look at it."""
    inputs, raws = request.inputs, request.raw_input_contents
    if len(inputs) > most:
        return invalid("inputs", "there are too many", len(inputs), most)
    tensors: list[Tensor] = []
    for position, each in enumerate(inputs):
        if each.parameters and any(name.startswith(_ELSEWHERE) for name in each.parameters):
            return invalid(f"inputs[{position}].parameters", "shared memory is not for clients of the gateway")
        datatype = each.datatype
        raw = raws[position] if position < len(raws) else None
        count, strings = None, None
        if each.HasField("contents"):
            contents = each.contents
            own = FIELDS.get(datatype)
            total = sum(len(getattr(contents, name)) for name in _ALL_FIELDS)
            count = len(getattr(contents, own)) if own else total
            if count != total:
                field, message = f"inputs[{position}].contents", f"input {shown(each.name)} has contents of another type"
                return invalid(field, message, f"{total - count} elements", f"{own or datatype} alone")
            strings = contents.bytes_contents if datatype == "BYTES" else None
        length = None if raw is None else len(raw)
        tensors.append(Tensor(each.name, datatype, tuple(each.shape), length, raw, count, strings))
    for position, each in enumerate(request.outputs):
        if each.parameters and any(name.startswith(_ELSEWHERE) for name in each.parameters):
            return invalid(f"outputs[{position}].parameters", "shared memory is not for clients of the gateway")
    return Request(size, tensors, len(raws))


def itself(request: Any, settings: ScreenSettings) -> Model:
    """Return a model that takes just what a request says it is: what is left to check where nobody tells what the model takes."""
    known = [each for each in request.inputs if each.datatype in SIZES]
    return Model([settings.taken(each.name, each.datatype, (-1,) * len(each.shape)) for each in known])


def rewritten(request: Any, changed: Mapping[str, Sequence[bytes]]) -> bytes:
    """Put other elements into BYTES inputs, as many as there were, and return the request's bytes. Its shapes stay."""
    raws = request.raw_input_contents
    for position, each in enumerate(request.inputs):
        elements = changed.get(each.name)
        if elements is None:
            continue
        if raws:
            raws[position] = joined(elements)
        else:
            each.contents.bytes_contents[:] = elements
    return bytes(request.SerializeToString())
