"""Make an exported graph plain data: no paths, no stale shapes, unique names, the same bytes every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx

from stillhouse.errors import SourceError
from stillhouse.sizes import size as shown_size

__all__ = ["MAX_BYTES", "operator_counts", "tidy", "tidy_as_it_is", "write_model"]

MAX_BYTES = (1 << 31) - (1 << 20)
"""A protobuf message ends at 2 GiB; an artifact's model is one file."""
_BEYOND = 1 << 29
"""Every field's number is below."""
_MAX_IR = 10
"""IR 10 (opset 21) is read by every ONNX Runtime since 1.18; nothing here needs a newer one."""


def tidy(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """Return a cleaned copy whose only output is called `output`.

    Local functions are inlined. Doc strings and metadata go: the dynamo exporter writes stack traces with the machine's
    paths there. `value_info` goes: it is stale after fusing, and quantization trips over it. Every node gets a unique name.

    Raises:
        SourceError: the graph has not exactly one output.
    """
    clean = _inlined(model)
    graph = clean.graph
    if len(graph.output) != 1:
        raise SourceError(
            "the network must have one output",
            field="source.uri",
            found=", ".join(value.name for value in graph.output)[:200] or "none",
            allowed="one tensor",
            fix="return only the embeddings or the logits",
        )
    _rename_output(graph, output)
    return _plain(clean)


def tidy_as_it_is(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a cleaned copy (see `tidy`) that keeps its outputs, however many, and their names."""
    return _plain(_inlined(model))


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    if clean.functions:
        from onnx import inliner

        clean = inliner.inline_local_functions(clean)
    return clean


def _plain(clean: onnx.ModelProto) -> onnx.ModelProto:
    graph = clean.graph
    del graph.value_info[:]
    _strip(graph)
    clean.doc_string = ""
    del clean.metadata_props[:]
    clean.producer_name = "stillhouse"
    clean.producer_version = ""
    clean.domain = ""
    clean.model_version = 0
    graph.name = "model"
    clean.ir_version = min(clean.ir_version, _MAX_IR)
    _name_nodes(graph)
    _imports(clean)
    return clean


def write_model(model: onnx.ModelProto, path: Path) -> int:
    """Write `model` as one file with deterministic bytes and return its size.

    Raises:
        SourceError: it is larger than one file may be (2 GiB).
    """
    parts = _serialized(model)
    size = sum(map(len, parts))
    if size > MAX_BYTES:
        raise SourceError(
            "the model is too large for one ONNX file",
            field="source.uri",
            found=shown_size(size),
            allowed=f"at most {shown_size(MAX_BYTES)}",
            fix="name a smaller model; one in safetensors can be distilled into a smaller one with spec.distill",
        )
    with path.open("wb") as file:
        file.writelines(parts)
    return size


def _serialized(model: onnx.ModelProto) -> list[bytes]:
    """Return the bytes of `SerializeToString(deterministic=True)`, in parts, each large tensor in one of its own.

    While protobuf writes no other thread runs, one that shows progress neither: a graph of 2 GiB at once is 10 s of silence.
    Fields stand in the order of their numbers, which is how protobuf writes them.
    """
    graph_at, tensors_at = _number(model, "graph"), _number(model.graph, "initializer")
    graph = [_fields(model.graph, range(tensors_at))]
    for tensor in model.graph.initializer:
        data = tensor.SerializeToString(deterministic=True)
        graph += [_header(tensors_at, len(data)), data]
    graph.append(_fields(model.graph, range(tensors_at + 1, _BEYOND)))
    head, tail = _fields(model, range(graph_at)), _fields(model, range(graph_at + 1, _BEYOND))
    return [head, _header(graph_at, sum(map(len, graph))), *graph, tail]


def _number(message: Any, field: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[field].number)


def _fields(message: Any, numbers: range) -> bytes:
    """Return the bytes of those fields of a message whose numbers are among `numbers`."""
    part = type(message)()
    for field, value in message.ListFields():
        if field.number not in numbers:
            continue
        if hasattr(value, "extend"):
            getattr(part, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(part, field.name).CopyFrom(value)
        else:
            setattr(part, field.name, value)
    return bytes(part.SerializeToString(deterministic=True))


def _header(number: int, length: int) -> bytes:
    """Return what stands before a field of so many bytes: its number and wire type, and its length, as varints."""
    out = bytearray()
    for value in (number << 3 | 2, length):
        left = value
        while left > 0x7F:
            out.append(left & 0x7F | 0x80)
            left >>= 7
        out.append(left)
    return bytes(out)


def operator_counts(model: onnx.ModelProto) -> dict[str, int]:
    """Return operator type → how often, sorted by name; operators of other domains are written `domain:type`."""
    counts = Counter(f"{node.domain}:{node.op_type}" if node.domain else node.op_type for node in model.graph.node)
    return dict(sorted(counts.items()))


def subgraphs(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    """Return the graphs inside a node (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def _rename_output(graph: onnx.GraphProto, output: str) -> None:
    old = graph.output[0].name
    if old == output:
        return
    names = {output: f"{output}_inner", old: output}
    for node in graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    for item in (*graph.output, *graph.initializer):
        item.name = names.get(item.name, item.name)


def _strip(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    items: list[Any] = [*graph.input, *graph.output, *graph.initializer, *graph.node]
    for item in items:
        item.doc_string = ""
        del item.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
        for inner in subgraphs(node):
            _strip(inner)
            del inner.value_info[:]


def _name_nodes(graph: onnx.GraphProto) -> None:
    taken: Counter[str] = Counter()
    for node in graph.node:
        base = node.name or node.op_type
        taken[base] += 1
        node.name = base if taken[base] == 1 else f"{base}_{taken[base] - 1}"


def _imports(model: onnx.ModelProto) -> None:
    used = {"", *(domain for domain in _domains(model.graph))}
    versions = {"ai.onnx.ml": 3} | {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    for domain in sorted(used):
        model.opset_import.append(onnx.helper.make_opsetid(domain, versions.get(domain, 1)))


def _domains(graph: onnx.GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield node.domain if node.domain != "ai.onnx" else ""
        for inner in subgraphs(node):
            yield from _domains(inner)
