"""Safetensors read as bytes: the header is checked before any library sees the file.

Format: https://github.com/huggingface/safetensors#format: 8 bytes length of the header (little-endian), the header
(JSON: name → dtype, shape, data_offsets), then the tensors, one after another without holes.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.passes.sources.folder import SourceFolder, read_json

__all__ = ["INDEX_FILE", "WEIGHTS_FILE", "Header", "Tensor", "gather", "read_header", "refuse_pickles"]

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_HEADER = 100_000_000
"""The format's own limit of the header, in bytes."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
_EXPONENTS: dict[str, np.unsignedinteger[Any]] = {
    "F16": np.dtype("<u2").type(0x7C00), "BF16": np.dtype("<u2").type(0x7F80),
    "F32": np.dtype("<u4").type(0x7F800000), "F64": np.dtype("<u8").type(0x7FF0 << 48),
}  # fmt: skip
"""The bits of the exponent: all of them are set in NaN and the infinities, and in nothing else."""
_BLOCK = 1 << 20
"""How many bytes are copied at once, a multiple of every item's; small enough to be looked at while in the cache."""
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle")
_FETCH = "fetch the file again from where the model was published"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: dtype by the format's name, shape, and its bytes [start, end) after the header.

    `finite`: no NaN and no infinity was met; of a tensor that was not copied nobody knows, and it is True.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    finite: bool = True


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file holds. `offset` is where the tensors' bytes begin in the file."""

    tensors: Mapping[str, Tensor]
    offset: int


def read_header(path: Path, name: str = WEIGHTS_FILE) -> Header:
    """Read and check the header of a safetensors file against the file's size.

    Raises:
        UnsafeSource: the file is a pickle or a zip (torch.save) under another name.
        SourceError: it is truncated, or the header contradicts itself.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
        _refuse_pickle(head, name)
        if len(head) < 9:
            raise _broken(name, f"{size} bytes", "at least a header")
        length = int(struct.unpack("<Q", head[:8])[0])
        if length > MAX_HEADER or length + 8 > size:
            raise _broken(name, f"a header of {length} bytes in a file of {size}", "a header inside the file")
        file.seek(8)
        raw = file.read(length)
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(name, f"a header that is no JSON ({error})"[:200], "a JSON object") from error
    if not isinstance(data, dict):
        raise _broken(name, "a header that is no JSON object", "a JSON object")
    data.pop("__metadata__", None)
    tensors = {key: _tensor(key, value, name) for key, value in data.items()}
    _check_layout(tensors, size - 8 - length, name)
    return Header(tensors, 8 + length)


def refuse_pickles(folder: SourceFolder) -> None:
    """Look for weights that are a pickle: what else may be wrong with such a folder is not worth a word before that.

    Raises:
        UnsafeSource: there is only a pickle, or it calls itself safetensors.
    """
    if folder.has(WEIGHTS_FILE):
        with folder.path(WEIGHTS_FILE).open("rb") as file:
            _refuse_pickle(file.read(9), WEIGHTS_FILE)
    elif not folder.has(INDEX_FILE):
        pickles = [name for name in sorted(folder.files) if name.endswith(_PICKLES)]
        if pickles:
            raise UnsafeSource(
                "the weights are a pickle, which can run code when it is read",
                field="source.uri",
                found=", ".join(pickles[:4]),
                allowed=f"{WEIGHTS_FILE}, or a .onnx file",
                fix="convert it where you trust it: model.save_pretrained(FOLDER, safe_serialization=True)",
            )


def gather(
    folder: SourceFolder,
    target: Path,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[Mapping[str, Tensor]], None] | None = None,
) -> Mapping[str, Tensor]:
    """Write the folder's weights as one file `target` and return its tensors.

    One `model.safetensors`, or shards named by `model.safetensors.index.json`, whose bytes are joined block by block:
    memory use does not grow with the model. `progress` is told bytes written and bytes in all; `check` is called with the
    tensors before anything is written. Numbers that are not finite are noted, not refused: a network may keep a mask of
    infinities among its buffers.

    Raises:
        UnsafeSource: there is only a pickle, or a shard's name leaves the folder.
        SourceError: no weights, a missing shard or tensor, or a damaged file.
    """
    pieces = _pieces(folder)
    if check is not None:
        check({key: tensor for key, (_, _, tensor) in pieces.items()})
    total = sum(tensor.end - tensor.start for _, _, tensor in pieces.values())
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    joined: dict[str, Tensor] = {}
    position = 0
    # Widest first, as the format's own writer does: every tensor is then aligned to its items.
    order = sorted(pieces, key=lambda key: (-_BITS[pieces[key][2].dtype], key))
    for key in order:
        tensor = pieces[key][2]
        end = position + tensor.end - tensor.start
        joined[key] = Tensor(tensor.dtype, tensor.shape, position, end)
        header[key] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)  # the format wants the tensors aligned to 8 bytes
    done = 0
    with target.open("wb") as out:
        out.write(struct.pack("<Q", len(raw)) + raw)
        for key in order:
            path, offset, tensor = pieces[key]
            with path.open("rb") as file:
                file.seek(offset + tensor.start)
                if not _copy(file, out, tensor, path.name):
                    joined[key] = replace(joined[key], finite=False)
            done += tensor.end - tensor.start
            if progress is not None:
                progress(done, total)
        out.flush()
        os.fsync(out.fileno())
    return joined


def _pieces(folder: SourceFolder) -> dict[str, tuple[Path, int, Tensor]]:
    if folder.has(WEIGHTS_FILE):
        path = folder.path(WEIGHTS_FILE)
        header = read_header(path)
        return {key: (path, header.offset, tensor) for key, tensor in header.tensors.items()}
    if folder.has(INDEX_FILE):
        return _shards(folder)
    refuse_pickles(folder)
    single = folder.top(".safetensors")
    if len(single) == 1:
        path = folder.path(single[0])
        header = read_header(path, single[0])
        return {key: (path, header.offset, tensor) for key, tensor in header.tensors.items()}
    folder.path(WEIGHTS_FILE)
    raise AssertionError("unreachable")


def _shards(folder: SourceFolder) -> dict[str, tuple[Path, int, Tensor]]:
    weight_map = read_json(folder.path(INDEX_FILE), INDEX_FILE).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _broken(INDEX_FILE, "no weight_map", "weight_map: tensor name → file name")
    headers: dict[str, Header] = {}
    pieces: dict[str, tuple[Path, int, Tensor]] = {}
    for key, shard in weight_map.items():
        if not isinstance(shard, str) or "/" in shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise UnsafeSource(
                "a shard's name leaves the folder or is no safetensors file",
                field=f"source.uri: {INDEX_FILE}: weight_map.{key}"[:200],
                found=str(shard)[:200],
                allowed="the plain name of a .safetensors file beside the index",
                fix=_FETCH,
            )
        if shard not in headers:
            headers[shard] = read_header(folder.path(shard), shard)
        if key not in headers[shard].tensors:
            raise _broken(shard, f"no tensor {key}", "every tensor that the index promises")
        pieces[key] = (folder.path(shard), headers[shard].offset, headers[shard].tensors[key])
    return pieces


def _refuse_pickle(head: bytes, name: str) -> None:
    # The first byte of a safetensors file may be 0x80 as well (a length); its ninth is always the JSON's brace.
    if head[8:9] == b"{":
        return
    if head[:4] == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in (b"\x01", b"\x02", b"\x03", b"\x04", b"\x05")):
        raise UnsafeSource(
            "the file is a pickle under another name, which can run code when it is read",
            field="source.uri",
            found=name,
            allowed="safetensors",
            fix="do not use this file; fetch the model from a source you trust",
        )


def _tensor(key: str, value: Any, name: str) -> Tensor:
    try:
        dtype, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise _broken(name, f"{key}: dtype, shape or data_offsets missing", "all three") from error
    numbers = (*shape, start, end)
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise _broken(name, f"{key}: {numbers}"[:200], "whole numbers that are not negative")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _broken(name, f"{key}: dtype {dtype}"[:200], ", ".join(_BITS))
    if end - start != math.prod(shape) * _BITS[dtype] // 8:
        raise _broken(name, f"{key}: {end - start} bytes for shape {list(shape)} {dtype}"[:200], "as many as the shape needs")
    return Tensor(dtype, shape, start, end)


def _check_layout(tensors: Mapping[str, Tensor], size: int, name: str) -> None:
    position = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            found = f"{key} begins at {tensor.start}, the tensor before it ends at {position}"
            raise _broken(name, found[:200], "tensors without holes or overlap")
        position = tensor.end
    if position != size:
        raise _broken(name, f"{size} bytes of tensors where the header says {position}", "equal sizes")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a name occurs twice")
    return data


def _copy(source: BinaryIO, target: BinaryIO, tensor: Tensor, name: str) -> bool:
    """Copy the tensor's bytes and say whether all of its numbers are finite."""
    exponent = _EXPONENTS.get(tensor.dtype)
    finite = True
    for start in range(tensor.start, tensor.end, _BLOCK):
        count = min(tensor.end - start, _BLOCK)
        block = source.read(count)
        if len(block) < count:
            raise _broken(name, "the file ends early", "all bytes of its header's tensors")
        target.write(block)
        if finite and exponent is not None:
            finite = bool((np.frombuffer(block, exponent.dtype) & exponent).max() != exponent)
    return finite


def _broken(name: str, found: str, allowed: str) -> SourceError:
    return SourceError(f"{name} is damaged or truncated", field="source.uri", found=found, allowed=allowed, fix=_FETCH)
