"""Fused operators written out, so that their weights stand at operators that have a form for few bits.

ONNX Runtime has no attention and no fused embeddings of 4 bits. `Attention` becomes the product of its projections and
`MultiHeadAttention`; `EmbedLayerNormalization` becomes lookups, sums and a normalisation. The numbers stay the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["can_be_unfused", "unfused"]

_OPSET = 13
"""From here on `Split` and `ReduceSum` take their numbers as inputs."""
_KEPT = ("mask_filter_value", "num_heads", "scale", "unidirectional")


def can_be_unfused(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Say whether a fused operator can be written out: it has no past, and nothing that only the fused one knows."""
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < _OPSET or node.domain != "com.microsoft":
        return False
    given, outputs = _given(node), [each for each in node.output if each]
    if node.op_type == "Attention":
        known = {each.name for each in node.attribute} <= {*_KEPT, "qkv_hidden_sizes"}
        return known and len(outputs) == 1 and not any(given.get(at) for at in (4, 6))
    if node.op_type == "EmbedLayerNormalization":
        lengths = len(node.output) > 1 and node.output[1]
        return not lengths or bool(given.get(7)) or not _is_read(model.graph, node.output[1])
    return False


def unfused(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """Return the model with the named fused operators written out.

    The node that holds an operator's weights takes its name; of embeddings that is the table of tokens, the others' nodes are
    `NAME/positions` and `NAME/types`.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name in names and node.op_type == "Attention":
            nodes.extend(_attention(node, graph))
        elif node.name in names and node.op_type == "EmbedLayerNormalization":
            nodes.extend(_embeddings(node, graph))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return made


def _given(node: onnx.NodeProto) -> dict[int, str]:
    return {at: name for at, name in enumerate(node.input) if name}


def _is_read(graph: onnx.GraphProto, name: str) -> bool:
    return any(name in node.input for node in graph.node) or any(each.name == name for each in graph.output)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _constant(graph: onnx.GraphProto, name: str, values: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
    return name


def _attention(node: onnx.NodeProto, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    given, attributes, name = _given(node), _attributes(node), node.name
    width = next(each.dims[1] for each in graph.initializer if each.name == node.input[1])
    sizes = attributes.get("qkv_hidden_sizes") or [width // 3] * 3
    parts = [f"{name}/{part}" for part in ("query", "key", "value")]
    yield helper.make_node("MatMul", [given[0], given[1]], [f"{name}/projected"], name=name)
    yield helper.make_node(
        "Split", [f"{name}/projected", _constant(graph, f"{name}/sizes", sizes)], parts, name=f"{name}/split", axis=-1
    )
    yield helper.make_node(
        "MultiHeadAttention",
        [*parts, given.get(2, ""), given.get(3, ""), given.get(5, "")],
        [node.output[0]],
        name=f"{name}/attention",
        domain="com.microsoft",
        **{key: attributes[key] for key in _KEPT if key in attributes},
    )


def _embeddings(node: onnx.NodeProto, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    given, name = _given(node), node.name
    ids, total = given[0], f"{name}/tokens"
    yield helper.make_node("Gather", [given[2], ids], [total], name=name)
    if 8 in given:
        places = given[8]
    else:
        places = f"{name}/places"
        yield helper.make_node("Shape", [ids], [f"{name}/shape"], name=f"{name}/shape")
        one = _constant(graph, f"{name}/one", 1)
        yield helper.make_node("Gather", [f"{name}/shape", one], [f"{name}/length"], name=f"{name}/length")
        zero = _constant(graph, f"{name}/zero", 0)
        yield helper.make_node("Range", [zero, f"{name}/length", one], [places], name=places)
    tables = [("positions", given[3], places)]
    if 1 in given and 4 in given:
        tables.append(("types", given[4], given[1]))
    for at, (part, table, rows) in enumerate(tables):
        yield helper.make_node("Gather", [table, rows], [f"{name}/{part}"], name=f"{name}/{part}")
        last = at == len(tables) - 1
        kept = len(node.output) > 2 and node.output[2]
        total, before = node.output[2] if last and kept else f"{name}/sum{at}", total
        yield helper.make_node("Add", [before, f"{name}/{part}"], [total], name=f"{name}/add{at}")
    epsilon = _attributes(node).get("epsilon", 1e-12)
    yield helper.make_node(
        "LayerNormalization", [total, given[5], given[6]], [node.output[0]], name=f"{name}/norm", axis=-1, epsilon=epsilon
    )
    if len(node.output) > 1 and node.output[1] and 7 in given:
        axes = _constant(graph, f"{name}/axes", [1])
        yield helper.make_node("ReduceSum", [given[7], axes], [node.output[1]], name=f"{name}/lengths", keepdims=0)
