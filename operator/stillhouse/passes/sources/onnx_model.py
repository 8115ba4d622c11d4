"""An ONNX file from outside: judged as bytes and as a graph before any runtime opens it.

Known traps (CVE-2022-25882, 2024-27318, 2025-51480, 2026-27489, 2026-34445): external data outside the model's folder,
by `..`, absolute paths or links; keys of an external-data record that name other files or offsets. So: only plain names
beside the model, only the keys that the format defines, only regular files, only numbers inside the file. The artifact
gets one file with everything inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Context
from stillhouse.passes.export.macs import count_parameters
from stillhouse.passes.export.samples import feed
from stillhouse.passes.export.tidy import MAX_BYTES, subgraphs, tidy, write_model
from stillhouse.passes.export.timing import open_session
from stillhouse.passes.sources.folder import SourceFolder, copy_file, read_json
from stillhouse.passes.sources.labels import label_order
from stillhouse.passes.sources.limits import chosen_max_length, image_spec
from stillhouse.passes.sources.tokenizer import TOKENIZER_FILE, TokenizerInfo, inspect_tokenizer, refuse_code

__all__ = ["DOMAINS", "ImportedOnnx", "import_onnx", "load_safely"]

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that the runtimes have without loading libraries."""
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})
_INLINE = "name the .onnx file of one that was saved whole: onnx.save(model, FILE, save_as_external_data=False)"


@dataclass(frozen=True, slots=True)
class ImportedOnnx:
    """What was found: `parameters` numbers in floating-point initializers, `dtypes` ONNX's names of their types."""

    signature: Signature
    tokenizer: TokenizerInfo | None
    parameters: int
    published_max_length: int
    dtypes: tuple[str, ...]


def import_onnx(config: Any, folder: SourceFolder, name: str, ctx: Context) -> ImportedOnnx:
    """Check `name` in `folder` and write an `onnx-model` artifact to `ctx.out`.

    `config` is the `ImportModelConfig`. The output becomes `sentence_embedding` or `logits`, whatever it was called.

    Raises:
        UnsafeSource: external data or operators that reach outside the file's folder or need foreign code.
        SourceError: the graph is damaged, too new for the installed runtime, or does not fit the task.
    """
    model = load_safely(folder, name)
    configuration = read_json(folder.path("config.json"), "config.json") if folder.has("config.json") else {}
    refuse_code(configuration, "config.json")
    embedding = config.task == "sentence-embedding"
    inputs = _inputs(model, config.task)
    output = _output(model, "sentence_embedding" if embedding else "logits")
    tokenizer, length, published = None, 0, 0
    if config.task != "image-classification":
        rows = configuration.get("vocab_size")
        tokenizer = inspect_tokenizer(folder, configuration, rows if isinstance(rows, int) else None)
        length, published = chosen_max_length(config.max_length, folder, configuration)
        copy_file(folder.path(TOKENIZER_FILE), ctx.out / TOKENIZER_FILE)
    labels = () if embedding else label_order(configuration, config.labels)
    clean = tidy(model, "sentence_embedding" if embedding else "logits")
    size = write_model(clean, ctx.out / "model.onnx")
    ctx.progress.update(size, size, "bytes", "checking the graph")
    signature = Signature(
        task=config.task,
        inputs=inputs,
        output=clean.graph.output[0].name,
        dimension=output or len(labels),
        labels=labels,
        max_length=length,
        pad_id=tokenizer.pad_id if tokenizer else 0,
        tokenizer_digest=tokenizer.digest if tokenizer else "",
        image=image_spec(config.image),
    )
    dimension = _try(ctx.out / "model.onnx", signature, tokenizer.rows if tokenizer else 0, ctx.threads)
    if labels and dimension != len(labels):
        raise SourceError(
            "the labels do not fit the graph",
            field="source.labels",
            found=f"{len(labels)} labels, {dimension} outputs",
            allowed=f"{dimension} labels",
            fix="list source.labels in the order of the model's outputs",
        )
    signature = Signature.from_json({**signature.to_json(), "dimension": dimension})
    signature.write(ctx.out)
    kinds = sorted({onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in clean.graph.initializer})
    return ImportedOnnx(signature, tokenizer, count_parameters(clean).total, published, tuple(kinds))


def load_safely(folder: SourceFolder, name: str) -> onnx.ModelProto:
    """Read an ONNX file with its external data, after judging both; nothing outside `folder` is opened.

    Raises:
        UnsafeSource: see the module.
        SourceError: it is no ONNX file, is damaged, or its opset is newer than the installed runtime.
    """
    path = folder.path(name)
    if path.stat().st_size > MAX_BYTES:
        raise _broken(name, f"{path.stat().st_size} bytes", "at most 2 GiB")
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
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise _broken(name, str(error).splitlines()[0][:300], "a graph that onnx.checker accepts") from error
    return model


def _refuse_domains(model: onnx.ModelProto) -> None:
    local = {(function.domain, function.name) for function in model.functions}
    nodes = list(_nodes(model.graph))
    for function in model.functions:
        for node in function.node:
            nodes += [node, *(inner for graph in subgraphs(node) for inner in _nodes(graph))]
    for node in nodes:
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in local:
            raise UnsafeSource(
                "the graph needs operators from a library of its own",
                field="source.uri",
                found=f"{node.domain}::{node.op_type} ({node.name})"[:200],
                allowed=", ".join(sorted(domain or "ai.onnx" for domain in DOMAINS - {"ai.onnx"})),
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
    size = path.stat().st_size
    needed = _bytes_of(tensor)
    offset, length = _number(record.get("offset", "0")), _number(record.get("length", str(needed)))
    if offset is None or length is None or length != needed or offset + length > size:
        claimed = f"{record.get('length', needed)} bytes at {record.get('offset', 0)} of {size}"
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


def _inputs(model: onnx.ModelProto, task: str) -> tuple[str, ...]:
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in weights]
    if task == "image-classification":
        fits, allowed = len(names) == 1, "one input: pixels [batch, channels, height, width]"
        ordered = names
    else:
        fits, allowed = set(names) <= set(_TEXT_INPUTS) and "input_ids" in names, ", ".join(_TEXT_INPUTS)
        ordered = [name for name in _TEXT_INPUTS if name in names]
    if not fits:
        raise SourceError(
            "the graph's inputs do not fit the task",
            field="source.task",
            found=f"{task}; inputs {', '.join(names)}"[:300],
            allowed=allowed,
            fix="export the model again with these input names",
        )
    return tuple(ordered)


def _output(model: onnx.ModelProto, wanted: str) -> int:
    """Reduce the graph to its one output of two dimensions; return that one's width, 0 where the graph leaves it open."""
    values = list(model.graph.output)
    flat = [value for value in values if len(value.type.tensor_type.shape.dim) == 2 and _is_float(value)]
    named = [value for value in flat if value.name == wanted]
    if len(named or flat) != 1:
        shapes = ", ".join(f"{value.name} with {len(value.type.tensor_type.shape.dim)} dimensions" for value in values)
        raise SourceError(
            f"the graph has no output that can be the {wanted}",
            field="source.uri",
            found=shapes[:300],
            allowed=f"one float output [batch, width], called {wanted} where there are several",
            fix="export the model with its pooling (or head) inside the graph",
        )
    chosen = (named or flat)[0]
    del model.graph.output[:]
    model.graph.output.append(chosen)
    return int(chosen.type.tensor_type.shape.dim[1].dim_value)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)


def _try(path: Path, signature: Signature, vocabulary: int, threads: int) -> int:
    """Open the model, run two batches of different shape, return the width of its output."""
    import numpy as np

    try:
        session = open_session(path, threads)
        for batch, length in ((1, 4), (3, 7)):
            output = session.run(None, feed(signature, batch, length, vocabulary))[0]
            if output.ndim != 2 or output.shape[0] != batch or not np.isfinite(output).all():
                raise ValueError(f"output of shape {list(output.shape)} for a batch of {batch}, or numbers that are not finite")
    except Exception as error:  # ONNX Runtime raises many kinds
        raise SourceError(
            "the installed ONNX Runtime cannot run the graph",
            field="source.uri",
            found=f"{error}".splitlines()[0][:300],
            allowed="a graph with a dynamic batch and sequence that gives one float output [batch, width]",
            fix="export it again: opset 17, dynamic axes for batch and sequence",
        ) from error
    return int(output.shape[1])


def _broken(name: str, found: str, allowed: str) -> SourceError:
    return SourceError(
        f"{name} is no ONNX model that can be used",
        field="source.uri",
        found=found,
        allowed=allowed,
        fix="fetch the file again from where the model was published, or export it anew",
    )
