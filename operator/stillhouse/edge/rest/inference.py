"""An inference: its JSON and binary tensors to a `ModelInferRequest`, and a `ModelInferResponse` back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from stillhouse.edge.oip.messages import message, value_of
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.oip.tensors import DTYPES, decoded, outputs_of, packed_bytes
from stillhouse.edge.rest.bodies import document
from stillhouse.edge.rest.problems import HttpProblem
from stillhouse.edge.rest.values import listed, raw_of, word
from stillhouse.edge.status import Code, RpcError

__all__ = ["Wanted", "request_of", "response_of"]

_REQUEST, _RESPONSE = message("ModelInferRequest"), message("ModelInferResponse")
_MOST_DIMENSIONS, _LARGEST_DIMENSION = 64, 2**63 - 1
_SIZE, _BINARY, _ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
"""Parameters that are REST's own: they say how a tensor travels here, and no backend sees them."""


@dataclass(slots=True)
class Wanted:
    """Which outputs a client wants as binary: those of `named`, by it, the others by `otherwise`."""

    otherwise: bool = False
    named: dict[str, bool] = field(default_factory=dict)

    def binary(self, name: str) -> bool:
        """Return whether an output goes as binary."""
        return self.named.get(name, self.otherwise)


def request_of(model: str, version: str, text: bytes, binary: bytes) -> tuple[Any, Wanted]:
    """Return a `ModelInferRequest` and how its outputs are to travel. `text`: JSON, `binary`: the tensors behind it.

    Raises:
        HttpProblem: 400; what is wrong where.
    """
    given = document(text)
    request = _REQUEST(model_name=model, model_version=version)
    if given.get("id") is not None:
        request.id = _text("id", given["id"])
    parameters = _object("parameters", given.get("parameters"))
    wanted = Wanted(_truth("parameters", parameters, _ALL_BINARY, False))
    _add_parameters(request.parameters, "parameters", parameters, _ALL_BINARY)
    position = 0
    for number, tensor in enumerate(_objects("inputs", given.get("inputs"))):
        position += _add_input(request, f"inputs[{number}]", tensor, binary, position)
    if position != len(binary):
        raise _wrong("inputs", f"{len(binary) - position} bytes are left behind the last tensor's")
    outputs = given.get("outputs")
    for number, tensor in enumerate(_objects("outputs", outputs) if outputs is not None else ()):
        where = f"outputs[{number}]"
        name = _text(f"{where}.name", tensor.get("name"))
        parameters = _object(f"{where}.parameters", tensor.get("parameters"))
        wanted.named[name] = _truth(where, parameters, _BINARY, wanted.otherwise)
        _add_parameters(request.outputs.add(name=name).parameters, f"{where}.parameters", parameters, _BINARY)
    return request, wanted


def _add_input(request: Any, where: str, given: Mapping[str, Any], binary: bytes, position: int) -> int:
    """Add a tensor; return how many bytes it has of `binary`, from `position` on."""
    name, datatype = (_text(f"{where}.{each}", given.get(each)) for each in ("name", "datatype"))
    shape = given.get("shape")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
        raise _wrong(f"{where}.shape", f"a list of at most {_MOST_DIMENSIONS} numbers is expected")
    if not all(type(each) is int and 0 <= each <= _LARGEST_DIMENSION for each in shape):
        raise _wrong(f"{where}.shape", "whole numbers from 0 on are expected")
    parameters = _object(f"{where}.parameters", given.get("parameters"))
    _add_parameters(
        request.inputs.add(name=name, datatype=datatype, shape=shape).parameters, f"{where}.parameters", parameters, _SIZE
    )
    size = parameters.get(_SIZE)
    if size is None:
        request.raw_input_contents.append(raw_of(name, datatype, shape, given.get("data")))
        return 0
    if given.get("data") is not None:
        raise _wrong(where, f"data and {_SIZE}: one of them is expected")
    if type(size) is not int or not 0 <= size <= len(binary) - position:
        raise _wrong(f"{where}.parameters.{_SIZE}", f"a number is expected, of the {len(binary) - position} bytes that are left")
    request.raw_input_contents.append(binary[position : position + size])
    return size


def response_of(body: bytes, wanted: Wanted) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how much of it is JSON; None: all. `body`: a `ModelInferResponse`.

    Raises:
        HttpProblem: 400; an output cannot be told as JSON.
        RpcError: INTERNAL; a backend's answer cannot be read.
    """
    try:
        response = parsed(_RESPONSE, body)
        raw = response.raw_output_contents
        if raw and len(raw) != len(response.outputs):
            raise RpcError(Code.INTERNAL, f"{len(raw)} raw contents, {len(response.outputs)} outputs")
        told: list[dict[str, Any]] = []
        binary: list[bytes] = []
        for number, output in enumerate(response.outputs):
            one: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
            parameters = _told_parameters(output.parameters)
            if wanted.binary(output.name):
                binary.append(bytes(raw[number]) if raw else _packed(_typed(output)))
                parameters[_SIZE] = len(binary[-1])
            else:
                if output.datatype not in DTYPES and output.datatype != "BYTES":
                    ask = '"parameters": {"binary_data": true}'
                    raise _wrong(output.name, f"{output.datatype} cannot be told as JSON: ask for it with {ask}")
                array = decoded(output.name, output.datatype, output.shape, raw[number]) if raw else _typed(output)
                one["data"] = listed(output.name, array)
            if parameters:
                one["parameters"] = parameters
            told.append(one)
    except RpcError as error:
        raise RpcError(Code.INTERNAL, f"the backend's answer cannot be read: {error.message}"[:500]) from error
    found: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        found["id"] = response.id
    if response.parameters:
        found["parameters"] = _told_parameters(response.parameters)
    found["outputs"] = told
    text = orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((text, *binary)), len(text)) if binary else (text, None)


def _typed(output: Any) -> Any:
    return outputs_of(_RESPONSE(outputs=[output]))[output.name]


def _packed(array: Any) -> bytes:
    if array.dtype == object:
        return packed_bytes(list(array.reshape(-1)))
    return bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _add_parameters(target: Any, where: str, given: Mapping[str, Any], own: str) -> None:
    for key, value in given.items():
        if key == own:
            continue
        name = _text(where, key)
        if isinstance(value, bool):
            target[name].bool_param = value
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            target[name].int64_param = value
        elif isinstance(value, int) and 0 <= value < 2**64:
            target[name].uint64_param = value
        elif isinstance(value, float):
            target[name].double_param = value
        elif isinstance(value, str):
            target[name].string_param = _text(f"{where}.{name}", value)
        else:
            raise _wrong(f"{where}.{name}", "a number of at most 64 bits, a text, true or false is expected")


def _told_parameters(parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        value = value_of(parameter)
        found[name] = word(value) if isinstance(value, float) and not math.isfinite(value) else value
    return found


def _objects(where: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _wrong(where, "a list of objects is expected")
    return value


def _object(where: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(where, "an object is expected")
    return value


def _truth(where: str, parameters: Mapping[str, Any], key: str, otherwise: bool) -> bool:
    value = parameters.get(key, otherwise)
    if not isinstance(value, bool):
        raise _wrong(f"{where}.{key}", "true or false is expected")
    return value


def _text(where: str, value: Any) -> str:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
            return value
        except UnicodeEncodeError:
            raise _wrong(where, "a text has half of a surrogate pair") from None
    raise _wrong(where, "a text is expected")


def _wrong(where: str, what: str) -> HttpProblem:
    printable = where[:200].encode("utf-8", "backslashreplace").decode("utf-8")
    return HttpProblem(400, f"{printable}: {what}")
