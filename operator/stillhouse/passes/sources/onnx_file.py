"""An ONNX file from outside: judged as bytes and as a graph before any runtime opens it.

Known traps (CVE-2022-25882, 2024-27318, 2025-51480, 2026-27489, 2026-34445): external data outside the model's folder,
by `..`, absolute paths or links; keys of an external-data record that name other files or offsets. So: only plain names
beside the model, only the keys that the format defines, only regular files, only numbers inside the file. And only files that
are part of the source: another one could change, and the digest under which the result is kept would not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError

from stillhouse.clients.sources.selection import EXTERNAL_DATA
from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.passes.base import Progress, SilentProgress
from stillhouse.passes.export.tidy import MAX_BYTES, subgraphs
from stillhouse.passes.sources.folder import SourceFolder
from stillhouse.sizes import size

__all__ = ["load_safely"]

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that the runtimes have without loading libraries."""
_EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})
_LARGE = 1 << 20
"""Numbers of a tensor that is checked by itself."""
_INLINE = "name the .onnx file of one that was saved whole: onnx.save(model, FILE, save_as_external_data=False)"
_SAVE_WHOLE = "save it whole: onnx.save(onnx.load(FILE), FILE)"


def load_safely(folder: SourceFolder, name: str, progress: Progress | None = None) -> onnx.ModelProto:
    """Read an ONNX file with its external data, after judging both; nothing outside `folder` is opened.

    `progress` is told of the tensors that are checked.

    Raises:
        UnsafeSource: see the module.
        SourceError: it is no ONNX file, is damaged, or its opset is newer than the installed runtime.
    """
    path = folder.path(name)
    if path.stat().st_size > MAX_BYTES:
        raise _broken(name, size(path.stat().st_size), f"at most {size(MAX_BYTES)}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, RecursionError) as error:
        raise _broken(name, str(error)[:200], "an ONNX file") from error
    if not model.graph.node or not model.graph.output:
        raise _broken(name, "no graph", "an ONNX file with operators and outputs")
    _refuse_domains(model)
    prefix = name.rpartition("/")[0]
    total = 0
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            total += _inline(tensor, folder, prefix)
            if total > MAX_BYTES:
                raise _broken(name, "more than 2 GiB of external data", "at most 2 GiB in all")
    try:
        _check(model, progress or SilentProgress())
    except onnx.checker.ValidationError as error:
        raise _broken(name, str(error).splitlines()[0][:300], "a graph that onnx.checker accepts") from error
    return model


def _check(model: onnx.ModelProto, progress: Progress) -> None:
    """Check large tensors one by one, and the graph without them.

    The checker copies what it is given, and no other thread runs meanwhile, one that shows progress neither: 2 GiB at once
    are 8 s of silence.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    large = [tensor for tensor in bare.graph.initializer if math.prod(tensor.dims) >= _LARGE]
    for done, tensor in enumerate(large, 1):
        onnx.checker.check_tensor(tensor)
        kept = tensor.name
        tensor.Clear()
        tensor.CopyFrom(onnx.helper.make_tensor(kept, onnx.TensorProto.FLOAT, [1], [0.0]))
        progress.update(done, len(large), "tensors", "checking the graph")
    onnx.checker.check_model(bare)


def _refuse_domains(model: onnx.ModelProto) -> None:
    local = {(function.domain, function.name) for function in model.functions}
    nodes = list(_nodes(model.graph))
    for function in model.functions:
        for node in function.node:
            nodes += [node, *(inner for graph in subgraphs(node) for inner in _nodes(graph))]
    for node in nodes:
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in local:
            raise UnsafeSource(
                "the graph needs operators from a library of its own",
                field="source.uri",
                found=f"{node.domain}::{node.op_type} ({node.name})"[:200],
                allowed=", ".join(sorted(domain or "ai.onnx" for domain in _DOMAINS - {"ai.onnx"})),
                fix="export the model again with standard operators only",
            )
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            raise SourceError(
                "the graph has an operator that ONNX does not know",
                field="source.uri",
                found=f"{node.op_type} ({node.name})"[:200],
                allowed="operators of ONNX and of com.microsoft",
                fix="export the model again with standard operators only",
            )
    newest = onnx.defs.onnx_opset_version()
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset > newest:
        raise SourceError(
            "the model's opset is newer than this version knows",
            field="source.uri",
            found=f"opset {opset}",
            allowed=f"up to {newest}",
            fix="export it again with a lower opset: opset_version=17",
        )


def _inline(tensor: onnx.TensorProto, folder: SourceFolder, prefix: str) -> int:
    """Put a tensor's external bytes into it and return how many there are."""
    record = {entry.key: entry.value for entry in tensor.external_data}
    location = record.get("location", "")
    odd = sorted(set(record) - _EXTERNAL_KEYS)
    inside = f"{prefix}/{location}" if prefix else location
    reason = ""
    if odd or len(record) != len(tensor.external_data):
        reason = f"keys {', '.join(odd) or 'given twice'}"
    elif not location or location in (".", "..") or any(sign in location for sign in "/\\\0:"):
        reason = repr(location)
    elif not folder.has(inside):
        reason = f"{location!r}, which is not there as a regular file"
    if reason:
        raise UnsafeSource(
            "external data of the graph reaches outside its folder",
            field=f"source.uri: tensor {tensor.name}"[:200],
            found=reason[:200],
            allowed="plain names of files beside the .onnx file, with offset and length",
            fix=_INLINE,
        )
    path = folder.path(inside)
    if not location.endswith(EXTERNAL_DATA):
        raise SourceError(
            "external data of the graph is in a file that does not count as part of the source",
            field=f"source.uri: tensor {tensor.name}"[:200],
            found=location[:200],
            allowed=" or ".join(f"a file NAME{ending} beside the .onnx file" for ending in EXTERNAL_DATA),
            fix=_SAVE_WHOLE,
        )
    there = path.stat().st_size
    needed = _bytes_of(tensor)
    offset, length = _number(record.get("offset", "0")), _number(record.get("length", str(needed)))
    if offset is None or length is None or length != needed or offset + length > there:
        claimed = f"{record.get('length', needed)} bytes at {record.get('offset', 0)} of {there}"
        raise _broken(
            location,
            f"tensor {tensor.name}: {claimed}, its shape needs {needed}"[:200],
            "bytes inside the file, as many as the shape needs",
        )
    with path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
    return length


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _bytes_of(tensor: onnx.TensorProto) -> int:
    if any(dimension < 0 for dimension in tensor.dims):
        return -1
    try:
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        return -1
    return int(math.prod(tensor.dims)) * int(item)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from _nodes(inner)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that a model can hold: initializers, constants, sparse ones, in subgraphs and functions."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    for function_node in list(nodes):
        graphs += list(subgraphs(function_node))
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        nodes += graph.node
        graphs += [inner for node in graph.node for inner in subgraphs(node)]
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            for sparse in attribute.sparse_tensors:
                yield from (sparse.values, sparse.indices)


def _broken(name: str, found: str, allowed: str) -> SourceError:
    return SourceError(
        f"{name} is no ONNX model that can be used",
        field="source.uri",
        found=found,
        allowed=allowed,
        fix="fetch the file again from where the model was published, or export it anew",
    )
