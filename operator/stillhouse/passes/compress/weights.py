"""Weights of an ONNX graph in blocks of few bits: where they stand, and the operators of ONNX Runtime that take them.

Layers become `MatMulNBits`, tables of embeddings `GatherBlockQuantized`, both of `com.microsoft`; activations stay FP32
outside of them. A table's scales are FP16, and its looked-up rows are made FP32 behind it: with a scale for every 32 weights
those of FP32 would be a fifth of the file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stillhouse.passes.compress.blocks import Blocks
from stillhouse.passes.compress.quantize import Operator, quantizable
from stillhouse.passes.compress.unfused import can_be_unfused, unfused

__all__ = ["LEVELS", "Part", "operators", "parts", "plain", "row_block", "with_blocks"]

LEVELS = {"fp32": 1, "int8": 4}
"""How a layer computes → `accuracy_level` of MatMulNBits."""
_DOMAIN = "com.microsoft"
_LEAST_TABLE = 1024
_LEAST_BLOCK = 16
_HALF = (6.2e-5, 6.5e4)
"""Scales that FP16 has with all its digits."""


@dataclass(frozen=True, slots=True)
class Part:
    """Weights of one node of the plain graph: `rows` float32 [outputs, inputs] of a layer, [ids, width] of a table.

    `operator` names the operator of the graph that was given, `input` a layer's activations.
    """

    operator: str
    node: str
    table: bool
    rows: NDArray[np.float32]
    input: str


def operators(model: onnx.ModelProto) -> list[Operator]:
    """Return the operators whose weights `with_blocks` can hold, in graph order; names as of `quantizable`."""
    nodes = {node.name: node for node in model.graph.node}
    shapes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    return [each for each in quantizable(model) if _fits(model, nodes[each.name], shapes)]


def plain(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """Return the graph in which each of the named operators has its weights at nodes of their own."""
    return unfused(model, names)


def parts(graph: onnx.GraphProto, names: Collection[str]) -> Iterator[Part]:
    """Yield the weights of the named operators of a plain graph."""
    tensors = {each.name: each for each in graph.initializer}
    for node in graph.node:
        operator = next((name for name in (node.name, node.name.rpartition("/")[0]) if name in names), None)
        if operator is None:
            continue
        if node.op_type == "Gather" and node.input[0] in tensors:
            table = tensors[node.input[0]]
            if _is_table(tuple(table.dims)) and table.data_type == onnx.TensorProto.FLOAT:
                yield Part(operator, node.name, True, numpy_helper.to_array(table), "")
        elif node.op_type in ("MatMul", "Gemm") and node.input[1] in tensors:
            weights = numpy_helper.to_array(tensors[node.input[1]])
            rows = weights if _attribute(node, "transB") else np.ascontiguousarray(weights.T)
            yield Part(operator, node.name, False, rows, node.input[0])


def with_blocks(model: onnx.ModelProto, found: Mapping[str, Blocks], level: int) -> onnx.ModelProto:
    """Return a plain graph in which the nodes named in `found` have their weights in blocks. `level`: see `LEVELS`."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        blocks = found.get(node.name)
        if blocks is None:
            nodes.append(node)
        elif node.op_type == "Gather":
            nodes.extend(_table(node, blocks, graph))
        else:
            nodes.append(_layer(node, blocks, graph, level))
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unread(graph)
    if not any(each.domain == _DOMAIN for each in made.opset_import):
        made.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return made


def row_block(width: int) -> int:
    """Return the block that holds a whole row of a table."""
    return max(_LEAST_BLOCK, 1 << math.ceil(math.log2(width)))


def _fits(model: onnx.ModelProto, node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if node.op_type == "MatMul":
        return len(shapes[node.input[1]]) == 2
    if node.op_type == "Gemm":
        bias = shapes.get(node.input[2]) if len(node.input) > 2 and node.input[2] else ()
        outputs = shapes[node.input[1]][0 if _attribute(node, "transB") else 1]
        return (
            bias in ((), (outputs,)) and not _attribute(node, "transA") and _factor(node, "alpha") == _factor(node, "beta") == 1
        )
    if node.op_type == "Gather":
        return _is_table(shapes[node.input[0]]) and not _attribute(node, "axis")
    if node.op_type == "EmbedLayerNormalization" and not _is_table(shapes.get(node.input[2], ())):
        return False
    return can_be_unfused(model, node)


def _is_table(shape: tuple[int, ...]) -> bool:
    """Whether a table is worth it, and its rows end with a whole byte."""
    return len(shape) == 2 and math.prod(shape) >= _LEAST_TABLE and shape[1] % 2 == 0


def _layer(node: onnx.NodeProto, blocks: Blocks, graph: onnx.GraphProto, level: int) -> onnx.NodeProto:
    scales, zeros = blocks.scales.reshape(-1), blocks.packed_zeros().reshape(-1)
    names = _put(graph, node.name, weights=blocks.packed(), scales=scales, zeros=zeros)
    bias = node.input[2] if len(node.input) > 2 else ""
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *names, *(["", bias] if bias else [])],
        node.output,
        name=node.name,
        domain=_DOMAIN,
        K=blocks.width,
        N=len(blocks.values),
        bits=blocks.bits,
        block_size=blocks.values.shape[2],
        accuracy_level=level,
    )


def _table(node: onnx.NodeProto, blocks: Blocks, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    bytes_ = blocks.width * blocks.bits // 8
    values = blocks.packed().reshape(len(blocks.values), -1)[:, :bytes_]
    half = _HALF[0] <= float(blocks.scales.min()) and float(blocks.scales.max()) <= _HALF[1]
    scales = blocks.scales.astype(np.float16 if half else np.float32)
    names = _put(graph, node.name, weights=values, scales=scales, zeros=blocks.packed_zeros())
    rows = f"{node.name}/rows" if half else node.output[0]
    yield helper.make_node(
        "GatherBlockQuantized",
        [names[0], node.input[1], *names[1:]],
        [rows],
        name=node.name,
        domain=_DOMAIN,
        gather_axis=0,
        quantize_axis=1,
        block_size=blocks.values.shape[2],
        bits=blocks.bits,
    )
    if half:
        yield helper.make_node("Cast", [rows], node.output, name=f"{node.name}/cast", to=onnx.TensorProto.FLOAT)


def _put(graph: onnx.GraphProto, name: str, **arrays: NDArray[Any]) -> list[str]:
    """Add arrays as weights; return their names."""
    for what, array in arrays.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{name}/{what}"))
    return [f"{name}/{what}" for what in arrays]


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
    inner = any(each.HasField("g") or each.graphs for node in graph.node for each in node.attribute)
    if inner:  # a graph inside a node reads by the same names
        return
    kept = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((int(each.i) for each in node.attribute if each.name == name), 0)


def _factor(node: onnx.NodeProto, name: str) -> float:
    return next((float(each.f) for each in node.attribute if each.name == name), 1.0)
