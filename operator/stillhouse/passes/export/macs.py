"""Cost of a model: multiply-accumulates and parameters, counted from the ONNX graph.

What counts: linear layers, convolutions and the products of attention (query·key, weights·value). What does not:
embeddings, normalisations, activations, softmax. Shapes are not inferred but seen: the graph runs once, unoptimised, and
the tensors at the counted operators give their shapes, so that fused and quantized operators need no inference rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from stillhouse.passes.export.samples import Feed

__all__ = ["Parameters", "count_macs", "count_parameters"]

Shape = tuple[int, ...]
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Weights of a floating-point graph; `embedding` is the part that is only looked up."""

    total: int
    embedding: int

    @property
    def without_embedding(self) -> int:
        """Return the weights that are multiplied."""
        return self.total - self.embedding


def count_parameters(model: onnx.ModelProto) -> Parameters:
    """Count the floating-point initializers of a graph; tables of Gather and EmbedLayerNormalization are embeddings."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type in _FLOATS}
    tables: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Gather":
            tables.add(node.input[0])
        elif node.op_type == "EmbedLayerNormalization":
            tables.update(node.input[2:5])  # word, position and segment tables
    return Parameters(sum(sizes.values()), sum(size for name, size in sizes.items() if name in tables))


def count_macs(model: onnx.ModelProto, feed: Feed) -> int:
    """Count the multiply-accumulates of one run on `feed`.

    Raises:
        ValueError: an operator that multiplies lies inside a control-flow node, where its shapes cannot be seen.
    """
    nodes = [node for node in model.graph.node if node.op_type in _RULES]
    for node in model.graph.node:
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            if any(inner.op_type in _RULES for graph in graphs for inner in graph.node):
                raise ValueError(f"{node.op_type} {node.name} holds operators that multiply")
    shapes = _shapes(model, feed, {name for node in nodes for name in (*node.input, *node.output) if name})
    return sum(_RULES[node.op_type](node, shapes) for node in nodes)


def _shapes(model: onnx.ModelProto, feed: Feed, names: set[str]) -> dict[str, Shape]:
    import onnxruntime

    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes |= {name: value.shape for name, value in feed.items()}
    produced = {name for node in model.graph.node for name in node.output}
    wanted = sorted((names & produced) - {value.name for value in model.graph.output})
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    # An output without a type: ONNX Runtime infers it.
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    for name, value in zip(outputs, session.run(outputs, feed), strict=True):
        shapes[name] = np.shape(value)
    return shapes


def _attribute(node: onnx.NodeProto, name: str, default: int = 0) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)


def _integers(node: onnx.NodeProto, name: str) -> Sequence[int]:
    return next((tuple(item.ints) for item in node.attribute if item.name == name), ())


def _matmul(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    left = shapes[node.input[0]]
    inner = left[-2] if _attribute(node, "transA") else left[-1]
    return math.prod(shapes[node.output[0]]) * inner


def _blocked(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.output[0]]) * _attribute(node, "K")


def _conv(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    index = 3 if node.op_type == "QLinearConv" else 1
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[index]][1:])


def _conv_transpose(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _attention(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    # com.microsoft: input [batch, sequence, in], weights [in, query + key + value]; the projections are inside.
    if node.domain != "com.microsoft":
        return _plain_attention(node, shapes)
    batch, length, width = shapes[node.input[0]]
    together = shapes[node.input[1]][1]
    parts = _integers(node, "qkv_hidden_sizes") or (together // 3,) * 3
    return batch * length * width * together + batch * length * length * (parts[0] + parts[2])


def _plain_attention(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    # Queries, keys and values were projected before: [batch, length, width] or [batch, heads, length, width].
    query, key, value = (shapes[name] for name in node.input[:3])
    keys = key[-2]
    rows = math.prod(query[:-1])
    # With three dimensions a row holds all heads' widths; with four, heads are among the rows. Either way the widths fit.
    wide = value[-1]
    return rows * keys * (query[-1] + wide)


def _recurrent(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    length, batch = shapes[node.input[0]][:2]
    return length * batch * (math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]]))


def _einsum(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    equation = next(item.s.decode() for item in node.attribute if item.name == "equation")
    sizes: dict[str, int] = {}
    for term, name in zip(equation.split("->")[0].split(","), node.input, strict=True):
        sizes |= dict(zip(term.strip(), shapes[name], strict=True))
    return math.prod(sizes.values()) if len(node.input) > 1 else 0


_MATMULS = (
    "DynamicQuantizeMatMul",
    "FusedGemm",
    "FusedMatMul",
    "Gemm",
    "GemmFastGelu",
    "MatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QGemm",
    "QLinearMatMul",
)
_RULES: dict[str, Callable[[onnx.NodeProto, Mapping[str, Shape]], int]] = {
    **dict.fromkeys(_MATMULS, _matmul),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _blocked),
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger", "QLinearConv"), _conv),
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("Attention", "QAttention"), _attention),
    "MultiHeadAttention": _plain_attention,
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    "Einsum": _einsum,
}
