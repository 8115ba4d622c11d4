"""Tensors made smaller for the way: half precision, eight bits, Zstandard. numpy in, bytes and a few facts out, and back.

What an answer loses (of finite float32 x; docs/preprocessing.md):
- `fp16`: |error| ≤ 2^-11 · |x|, or 2^-25 for |x| below 2^-14. A value beyond 65504 is refused.
- `int8`: |error| ≤ scale / 2 + 2^-24 · |x|, with scale = (the largest value or 0, less the smallest or 0) / 255, of the tensor or
  of each row (first axis). Zero stays zero. A value that is not finite is refused.
- `zstd`: nothing.

A decoder trusts nothing: how many bytes come out is known from type and shape before anything is unpacked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError, MissingPackages
from stillhouse.extras import install
from stillhouse.inference.datatypes import DTYPES, ITEM_BYTES, Tensor, datatype_name

__all__ = ["MOST_BYTES", "Encoded", "Encoding", "decode", "encode"]

Number = Literal["", "fp16", "int8", "int8-rows"]
MOST_BYTES = 64 << 20
"""Largest tensor that is decoded, in bytes of its plain form."""
_HALF_MOST = 65504.0
_SINGLE_MOST = float(np.finfo(np.float32).max)
_LEVEL = 3  # beyond it, a tensor of floats gets little smaller and much slower

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a tensor travels: `number` is what its numbers become ("": they stay), `zstd` whether the bytes are compressed.

    Raises:
        DataError: no such number.
    """

    number: Number = ""
    zstd: bool = False

    def __post_init__(self) -> None:
        if self.number not in get_args(Number):
            raise DataError("no such encoding", field="encoding", found=self.number[:20], allowed=", ".join(get_args(Number)[1:]))

    def __str__(self) -> str:
        return "+".join(part for part in (self.number, "zstd" if self.zstd else "") if part)

    @classmethod
    def parse(cls, text: str, field: str) -> Encoding:
        """Read `fp16`, `int8`, `int8-rows`, `zstd` or `fp16+zstd` and the like.

        Raises:
            DataError: it is none of them.
        """
        for number in get_args(Number):
            for zstd in (False, True):
                one = cls(number, zstd)
                if text and text == str(one):
                    return one
        allowed = "fp16, int8, int8-rows, zstd, or one of the first three with +zstd"
        raise DataError("no such encoding", field=field, found=text[:40], allowed=allowed)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor on its way. `datatype` and `shape` are those of the plain tensor.

    `scale` and `zero` belong to the numbers int8: one each, or one for each row. x = (q - zero) · scale.
    """

    encoding: Encoding
    datatype: str
    shape: tuple[int, ...]
    data: bytes
    scale: tuple[float, ...] = ()
    zero: tuple[int, ...] = ()

    @property
    def wire_datatype(self) -> str:
        """The type of the numbers that travel, before they are compressed."""
        return {"": self.datatype, "fp16": "FP16"}.get(self.encoding.number, "INT8")


def encode(name: str, tensor: Tensor, encoding: Encoding) -> Encoded:
    """Make a tensor smaller.

    Raises:
        DataError: it is BYTES; a number encoding meets another type than FP32, or a value that it cannot hold.
        MissingPackages: zstandard is not installed.
    """
    datatype = datatype_name(tensor)
    if datatype not in DTYPES:
        raise DataError("only tensors of a fixed size are encoded", field=name, found=str(datatype), allowed=", ".join(DTYPES))
    if encoding.number and datatype != "FP32":
        raise DataError(f"{encoding.number} is made of FP32", field=name, found=datatype, allowed="FP32, or zstd alone")
    scale, zero = np.empty(0), np.empty(0, np.int64)
    values: Tensor = tensor
    if encoding.number == "fp16":
        if (np.isfinite(tensor) & (np.abs(tensor) > _HALF_MOST)).any():
            raise DataError(
                "a value is too large for fp16", field=name, found=f"{np.abs(tensor).max():g}", allowed="65504 at most"
            )
        values = tensor.astype(np.float16)
    elif encoding.number:
        values, scale, zero = _quantized(name, tensor, rows=encoding.number == "int8-rows")
    data = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
    if encoding.zstd:
        data = _zstandard().ZstdCompressor(level=_LEVEL, write_content_size=True).compress(data)
    return Encoded(encoding, datatype, tensor.shape, data, tuple(scale.tolist()), tuple(zero.tolist()))


def decode(name: str, given: Encoded, most_bytes: int = MOST_BYTES) -> Tensor:
    """Return the plain tensor.

    Raises:
        DataError: type, shape, bytes, scale and zero do not fit together, or it would be larger than `most_bytes`.
        MissingPackages: zstandard is not installed.
    """
    if given.datatype not in ITEM_BYTES or (given.encoding.number and given.datatype != "FP32"):
        raise DataError("this type is not encoded so", field=name, found=f"{given.datatype[:20]} as {given.encoding}")
    count = math.prod(given.shape)  # Python's integers: nothing overflows
    if any(each < 0 for each in given.shape) or len(given.shape) > 16 or count * ITEM_BYTES[given.datatype] > most_bytes:
        raise DataError("no such shape", field=name, found=str(list(given.shape[:16])), allowed=f"{most_bytes} bytes at most")
    size = count * ITEM_BYTES[given.wire_datatype]
    data = _unpacked(name, given.data, size) if given.encoding.zstd else given.data
    if len(data) != size:
        raise DataError("another number of bytes", field=name, found=str(len(data)), allowed=str(size))
    values: Tensor = np.frombuffer(data, dtype=np.dtype(DTYPES[given.wire_datatype]).newbyteorder("<")).reshape(given.shape)
    if given.encoding.number == "fp16":
        return values.astype(np.float32)
    if given.encoding.number:
        scale, zero = _checked(name, given)
        # Half a step beyond the largest float32 is none; what was sent was one, so that the nearest is nearer to it.
        return ((values.astype(np.float64) - zero) * scale).clip(-_SINGLE_MOST, _SINGLE_MOST).astype(np.float32)
    return values


def _quantized(name: str, tensor: Tensor, *, rows: bool) -> tuple[Tensor, Floats, npt.NDArray[np.int64]]:
    values = tensor.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("a value is not finite", field=name, allowed="finite numbers; zstd alone keeps every bit")
    flat = values.reshape(len(values), math.prod(values.shape[1:])) if rows and values.ndim else values.reshape(1, -1)
    low, high = flat.min(axis=1, initial=0.0), flat.max(axis=1, initial=0.0)
    scale = (high - low) / 255
    scale[scale == 0] = 1.0
    zero = np.rint(-128 - low / scale).clip(-128, 127)
    whole = np.rint(flat / scale[:, None]) + zero[:, None]
    return whole.clip(-128, 127).astype(np.int8).reshape(tensor.shape), scale, zero.astype(np.int64)


def _checked(name: str, given: Encoded) -> tuple[Floats, Floats]:
    """Return scale and zero, shaped to meet the tensor."""
    rows = given.encoding.number == "int8-rows" and bool(given.shape)
    wanted = given.shape[0] if rows else 1
    largest = 2 * _SINGLE_MOST / 255  # from the least float32 to the largest
    good = len(given.scale) == len(given.zero) == wanted
    good = good and all(0 < each <= largest for each in given.scale)  # NaN is not
    good = good and all(-128 <= each <= 127 for each in given.zero)
    if not good:
        raise DataError(
            "no such scale or zero",
            field=name,
            found=f"{_few(given.scale)}; {_few(given.zero)}",
            allowed=f"{wanted} each; scales above 0 that float32 can hold, zeros of -128 to 127",
        )
    shape = (wanted,) + (1,) * (len(given.shape) - 1) if rows else ()
    return np.array(given.scale).reshape(shape), np.array(given.zero, dtype=np.float64).reshape(shape)


def _few(values: Sequence[float]) -> str:
    return ", ".join(f"{each:g}" for each in values[:4]) + (f" … ({len(values)})" if len(values) > 4 else "")


def _unpacked(name: str, data: bytes, size: int) -> bytes:
    """Unpack one frame that says that it holds `size` bytes; nothing is unpacked of another."""
    zstandard = _zstandard()
    try:
        says = zstandard.frame_content_size(data)
        if says != size:
            found = "no size" if says < 0 else f"{says} bytes"
            raise DataError("the compressed tensor has another size", field=name, found=found, allowed=f"{size} bytes")
        plain: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DataError(
            "the tensor cannot be unpacked", field=name, found=str(error)[:100], allowed="one Zstandard frame"
        ) from error
    return plain


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingPackages("zstd needs zstandard", found=str(error), fix=install("edge")) from error
    return zstandard
