"""Make an exported graph plain data: no paths, no stale shapes, unique names, the same bytes every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import EncodeError

from stillhouse.errors import SourceError
from stillhouse.sizes import size as shown_size

__all__ = ["MAX_BYTES", "operator_counts", "tidy", "write_model"]

MAX_BYTES = (1 << 31) - (1 << 20)
"""A protobuf message ends at 2 GiB; an artifact's model is one file."""
_MAX_IR = 10
"""IR 10 (opset 21) is read by every ONNX Runtime since 1.18; nothing here needs a newer one."""


def tidy(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """Return a cleaned copy whose only output is called `output`.

    Local functions are inlined. Doc strings and metadata go: the dynamo exporter writes stack traces with the machine's
    paths there. `value_info` goes: it is stale after fusing, and quantization trips over it. Every node gets a unique name.

    Raises:
        SourceError: the graph has not exactly one output.
    """
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    if clean.functions:
        from onnx import inliner

        clean = inliner.inline_local_functions(clean)
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
    # Not ByteSize: it takes as long as writing, with no other thread running, and a graph of 2 GiB was silent for both.
    try:
        data = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError):  # how protobuf says that a message is larger than one may be
        data = b""
    if not data or len(data) > MAX_BYTES:
        raise SourceError(
            "the model is too large for one ONNX file",
            field="source.uri",
            found=shown_size(len(data)) if data else "more than 2 GiB",
            allowed=f"at most {shown_size(MAX_BYTES)}",
            fix="name a smaller model; one in safetensors can be distilled into a smaller one with spec.distill",
        )
    path.write_bytes(data)
    return len(data)


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
