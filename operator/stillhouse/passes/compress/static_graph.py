"""INT8 static quantization of an ONNX graph: what an activation's scale is was read off calibration rows, no run looks for it.

Convolutions, and what passes their numbers on (ReLU, pooling, residual sums), are written with ONNX Runtime's quantizer as
QuantizeLinear and DequantizeLinear around the operator, which the runtime turns into QLinearConv and its like. Linear layers and
fused attention become ONNX Runtime's own integer operators with the bias inside, the kernels that its dynamic quantization runs
as well; around a MatMul in DequantizeLinear form it would leave the bias outside. Only what these operators read is rounded: a
residual path that reads the same activation keeps its floats, and so does every output. Attention's products of two activations
stay as they are. Tables of embeddings are rounded as in dynamic quantization.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stillhouse.passes.compress.quantize import Operator, quantizable, quantize, quiet
from stillhouse.passes.compress.ranges import Range
from stillhouse.passes.export.tidy import tidy

__all__ = ["quantize_static", "static_operators", "watched"]

_TABLES = ("Gather", "EmbedLayerNormalization")
_LINEAR = ("MatMul", "Gemm", "Attention")
_PASSED_ON = frozenset(
    {"Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Relu", "Reshape", "Squeeze", "Transpose"}
)
_FUSED = "com.microsoft"


def static_operators(model: onnx.ModelProto) -> list[Operator]:
    """Return the operators of an FP32 graph that `quantize_static` would touch, in graph order."""
    known = {operator.name: operator for operator in quantizable(model)}
    weights = _weights(model)
    found: list[Operator] = []
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in weights:
            found.append(Operator(node.name, node.op_type, int(np.prod(weights[node.input[1]].dims))))
        elif node.name in known and (node.op_type in _TABLES or _fits(node, weights)):
            found.append(known[node.name])
    return found


def watched(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the activations whose ranges `quantize_static` needs."""
    operators = {operator.name for operator in static_operators(model)}
    passed = {node.name for node in _passing(model, operators)}
    weights = {tensor.name for tensor in model.graph.initializer}
    found: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in passed or (node.name in operators and node.op_type == "Conv"):
            found |= dict.fromkeys(name for name in (*node.input, *node.output) if name and name not in weights)
        elif node.name in operators and node.op_type in _LINEAR:
            found[node.input[0]] = None
    return tuple(found)


def quantize_static(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    reduce_range: bool,
    exclude: Iterable[str] = (),
    only: Iterable[str] | None = None,
) -> onnx.ModelProto:
    """Return the INT8 graph; the given one is left as it is.

    `ranges` are those of `watched`. `reduce_range`, `exclude` and `only`: see `quantize`.

    Raises:
        ValueError: nothing would be quantized.
        Exception: the quantizer's own, for a graph that it cannot handle.
    """
    operators = static_operators(model)
    names = {operator.name for operator in operators}
    chosen = (names if only is None else names & set(only)) - set(exclude)
    if not chosen:
        raise ValueError("no operator is left to quantize")
    types = {operator.name: operator.type for operator in operators if operator.name in chosen}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.value_info[:]  # stale shapes make the quantizer fail: it infers them anew
    convolutions = [name for name, kind in types.items() if kind == "Conv"]
    if convolutions:
        made = _convolutions(made, convolutions, ranges, reduce_range)
    _linear(made, {name for name, kind in types.items() if kind in _LINEAR}, ranges, reduce_range)
    tables = [name for name, kind in types.items() if kind in _TABLES]
    if tables:  # last: what rounds them writes every Gemm that is left as MatMul and Add
        return quantize(made, per_channel=True, reduce_range=reduce_range, only=tables)
    return tidy(made, model.graph.output[0].name)


def _weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {each.name: each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT}


def _fits(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    """Say whether a linear node is one of those that the integer operators can stand for."""
    given: dict[str, Any] = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    matrix = len(node.input) > 1 and node.input[1] in weights and len(weights[node.input[1]].dims) == 2
    if node.op_type == "Attention":
        more = any(node.input[4:]) or "qkv_hidden_sizes" in given or len(node.output) > 1
        return matrix and len(node.input) > 2 and bool(node.input[2]) and not more
    if node.op_type == "Gemm":
        bias = node.input[2] if len(node.input) > 2 else ""
        plain = given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0 and not given.get("transA")
        return matrix and plain and (not bias or (bias in weights and len(weights[bias].dims) == 1))
    return matrix


def _passing(model: onnx.ModelProto, operators: Collection[str]) -> list[onnx.NodeProto]:
    """Return the nodes that only pass on what convolutions (or nodes like them) give."""
    constants = {tensor.name for tensor in model.graph.initializer}
    given: set[str] = set()
    found: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.name in operators:
            given |= set(node.output)
        elif node.op_type in _PASSED_ON:
            numbers = list(node.input) if node.op_type in ("Add", "Concat") else list(node.input[:1])
            if all(name in given and name not in constants for name in numbers):
                given |= set(node.output)
                found.append(node)
    return found


def _convolutions(
    model: onnx.ModelProto, names: Collection[str], ranges: Mapping[str, Range], reduce_range: bool
) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    passing = _passing(model, names)
    seen = {
        name: TensorData(lowest=np.array(each.low, np.float32), highest=np.array(each.high, np.float32))
        for name, each in ranges.items()
    }
    with quiet():
        quantizer = QDQQuantizer(
            model,
            True,
            reduce_range,
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, seen),
            sorted({*names, *(node.name for node in passing)}),
            [],
            sorted({"Conv", *(node.op_type for node in passing)}),
            {"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    return made


def _linear(model: onnx.ModelProto, names: Collection[str], ranges: Mapping[str, Range], reduce_range: bool) -> None:
    """Replace linear nodes by integer ones, in place."""
    graph = model.graph
    weights = _weights(model)
    nodes = list(graph.node)
    makers = {name: node for node in nodes for name in node.output}
    sums = _sums(nodes, names, weights, {value.name for value in graph.output})
    absorbed = {id(node) for node, _ in sums.values()}
    rounded: dict[str, tuple[str, str, str]] = {}
    activations = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.UINT8 and not tensor.dims}
    ours = {node.name for node in nodes if node.op_type == "DequantizeLinear" and set(node.input[2:]) & activations}
    del graph.node[:]
    for node in nodes:
        if id(node) in absorbed:
            continue
        if node.name not in names:
            graph.node.append(node)
            continue
        given = node.input[0]
        if given not in rounded:
            maker = makers.get(given)
            if maker is not None and maker.name in ours:  # what a convolution gave is rounded already
                rounded[given] = (maker.input[0], maker.input[1], maker.input[2])
            else:
                rounded[given] = _rounding(graph, given, ranges[given])
        bias = node.input[2] if len(node.input) > 2 else ""
        outputs = list(node.output)
        if node.name in sums:
            add, bias = sums[node.name]
            outputs = list(add.output)
        matrix = _values(weights[node.input[1]])
        turned = any(each.name == "transB" and each.i for each in node.attribute)
        integers = _weight(graph, node.name, matrix.T if turned else matrix, reduce_range)
        number, scale, zero = rounded[given]
        if node.op_type == "Attention":
            mask = node.input[3] if len(node.input) > 3 else ""
            inputs = [number, integers[0], bias, scale, integers[1], mask, zero, integers[2]]
            made = helper.make_node("QAttention", inputs, outputs, node.name, domain=_FUSED)
            made.attribute.extend(node.attribute)
        else:
            inputs = [number, integers[0], scale, integers[1], zero, integers[2], *([bias] if bias else [])]
            made = helper.make_node("MatMulIntegerToFloat", inputs, outputs, node.name, domain=_FUSED)
        graph.node.append(made)
    _forget(model)
    if names and _FUSED not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(_FUSED, 1))


def _sums(
    nodes: Iterable[onnx.NodeProto], names: Collection[str], weights: Mapping[str, onnx.TensorProto], outputs: Collection[str]
) -> dict[str, tuple[onnx.NodeProto, str]]:
    """Return MatMul → the Add of a constant row that alone reads it, and that row's name."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[str, tuple[onnx.NodeProto, str]] = {}
    for node in nodes:
        if node.name not in names or node.op_type != "MatMul" or node.output[0] in outputs:
            continue
        after = readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "Add":
            other = next((name for name in after[0].input if name != node.output[0]), "")
            if other in weights and list(weights[other].dims) == list(weights[node.input[1]].dims[1:]):
                found[node.name] = (after[0], other)
    return found


def _rounding(graph: onnx.GraphProto, name: str, within: Range) -> tuple[str, str, str]:
    """Add the node that rounds an activation to UINT8; return the names of its numbers, scale and zero point."""
    scale, zero = within.rounding
    made = (f"{name}_rounded", f"{name}_scale", f"{name}_zero")
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), made[1]))
    graph.initializer.append(numpy_helper.from_array(np.array(zero, np.uint8), made[2]))
    graph.node.append(helper.make_node("QuantizeLinear", [name, made[1], made[2]], [made[0]], f"{name}_round"))
    return made


def _weight(graph: onnx.GraphProto, name: str, values: NDArray[np.float32], reduce_range: bool) -> tuple[str, str, str]:
    """Add INT8 weights [inputs, outputs], a scale for each output; return the names of weights, scales and zero points."""
    most = 63 if reduce_range else 127
    scale = (np.maximum(np.abs(values).max(axis=0), 1e-30) / most).astype(np.float32)
    rounded = np.clip(np.round(values / scale), -most, most).astype(np.int8)
    made = (f"{name}_weight", f"{name}_weight_scale", f"{name}_weight_zero")
    for each, array in zip(made, (np.ascontiguousarray(rounded), scale, np.zeros(len(scale), np.int8)), strict=True):
        graph.initializer.append(numpy_helper.from_array(array, each))
    return made


def _values(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    values: NDArray[np.float32] = numpy_helper.to_array(tensor)
    return values


def _forget(model: onnx.ModelProto) -> None:
    """Drop the weights, and the nodes that made floats of what is rounded, that nothing reads any more."""
    outputs = {value.name for value in model.graph.output}
    read = {name for node in model.graph.node for name in node.input} | outputs
    nodes = [node for node in model.graph.node if node.op_type != "DequantizeLinear" or node.output[0] in read]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
