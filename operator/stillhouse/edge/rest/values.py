"""A tensor's data as a JSON list, to and from raw contents (little endian, row major).

Lists are nested as the shape says, or flat. Numbers are taken for what they are: no text, no truth value and no fraction becomes
an integer. What JSON has no number for is text, as in protobuf's JSON: "NaN", "Infinity", "-Infinity".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from stillhouse.edge.oip.tensors import DTYPES, packed_bytes
from stillhouse.edge.rest.problems import HttpProblem

__all__ = ["flat", "listed", "raw_of", "word"]

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LARGEST = 1 << 31
_NUMBERS = {int, float}


def raw_of(name: str, datatype: str, shape: Sequence[int], data: Any) -> bytes:
    """Return the raw contents of a tensor whose data is a JSON list.

    Raises:
        HttpProblem: 400; type, shape and data do not fit together.
    """
    values = flat(name, shape, data)
    if datatype == "BYTES":
        return packed_bytes([_text(name, each) for each in values])
    kind = DTYPES.get(datatype)
    if kind is None:
        raise _wrong(name, f"datatype {datatype[:20]!r}: {', '.join(DTYPES)} and BYTES can be given as JSON")
    target = np.dtype(kind).newbyteorder("<")
    kinds = set(map(type, values))
    if target.kind == "b":
        if kinds - {bool}:
            raise _wrong(name, "data of BOOL is true and false")
        return np.array(values, dtype=target).tobytes()
    if target.kind in "iu":
        return _integers(name, datatype, values, kinds, target)
    return _floats(name, datatype, values, kinds, target)


def _integers(name: str, datatype: str, values: list[Any], kinds: set[type], target: np.dtype[Any]) -> bytes:
    if kinds - {int}:
        raise _wrong(name, f"data of {datatype} is whole numbers of at most 64 bits")
    limits = np.iinfo(target)
    if values and (min(values) < limits.min or max(values) > limits.max):
        raise _wrong(name, f"a value does not fit into {datatype}")
    return np.array(values, dtype=target).tobytes()


def _floats(name: str, datatype: str, values: list[Any], kinds: set[type], target: np.dtype[Any]) -> bytes:
    if kinds - _NUMBERS:
        if kinds - _NUMBERS - {str}:
            raise _wrong(name, f'data of {datatype} is numbers, "NaN", "Infinity" and "-Infinity"')
        try:
            values = [_WORDS[each] if type(each) is str else each for each in values]
        except KeyError as error:
            raise _wrong(name, f"{str(error)[:60]} is no number of {datatype}") from None
    try:
        doubles = np.array(values, dtype=np.float64)
    except OverflowError:
        raise _wrong(name, f"a value does not fit into {datatype}") from None
    with np.errstate(over="ignore"):
        found = doubles.astype(target)
    if np.isinf(found).any() and not np.array_equal(np.isinf(found), np.isinf(doubles)):
        raise _wrong(name, f"a value does not fit into {datatype}")
    return found.tobytes()


def flat(name: str, shape: Sequence[int], data: Any) -> list[Any]:
    """Return the elements of a list, nested as `shape` says or flat, row by row.

    Raises:
        HttpProblem: 400; it is no such list.
    """
    count = math.prod(shape)  # Python's integers: no overflow can make a giant small
    if count > _LARGEST:
        raise _wrong(name, f"shape {list(shape)[:16]} has more than 2^31 elements")
    if not isinstance(data, list):
        raise _wrong(name, "data is a list")
    values: list[Any] = data
    if len(shape) > 1 and values and isinstance(values[0], list):
        for depth, size in enumerate(shape[1:], 1):
            if not all(isinstance(each, list) and len(each) == size for each in values):
                raise _wrong(name, f"data is not nested as shape {list(shape)[:16]} says: lists of {size} at depth {depth}")
            if depth == 1 and len(values) != shape[0]:
                raise _wrong(name, f"{len(values)} rows, shape {list(shape)[:16]} needs {shape[0]}")
            values = list(chain.from_iterable(values))
    if len(values) != count:
        raise _wrong(name, f"{len(values)} values, shape {list(shape)[:16]} needs {count}")
    return values


def listed(name: str, array: Any) -> Any:
    """Return a tensor as what `orjson` writes as a flat list: an array, or a list where it needs texts.

    Raises:
        HttpProblem: 400; its bytes are no text.
    """
    values = array.reshape(-1)
    if values.dtype == object:
        try:
            return [each.decode("utf-8") for each in values]
        except UnicodeDecodeError:
            raise _wrong(name, 'its bytes are no text: ask for it with "parameters": {"binary_data": true}') from None
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return [each if math.isfinite(each) else word(each) for each in values.tolist()]
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def word(value: float) -> str:
    """Return what stands for a number that JSON does not have."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(name: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise _wrong(name, "data of BYTES is texts")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise _wrong(name, "a text has half of a surrogate pair") from None


def _wrong(name: str, what: str) -> HttpProblem:
    return HttpProblem(400, f"{name[:100]}: {what}")
