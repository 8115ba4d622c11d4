"""Balancing before INT8: what is hard to round in an activation is moved into the weights that it meets.

SmoothQuant (G. Xiao et al. 2022, arXiv:2211.10438, equation 4): channel j of the activation is divided by
s_j = max|X_j|^a / max|W_j|^(1-a) and row j of the weights multiplied by it. Here s_j is rounded to a power of two: products stay
the same to the last bit, and a factor of at most the square root of 2 is not what rounding suffers from.

The division goes into the gain and shift of the norm that gives the activation. Where others read that norm too (the residual
path of an encoder that normalises last), it is one `Mul` before the linear layers; without a norm before, nothing is balanced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stillhouse.passes.compress.ranges import Extremes

__all__ = ["balance", "balanceable", "factors", "rescale"]

_NORMS = {"LayerNormalization": (1, 2), "SkipLayerNormalization": (2, 3), "EmbedLayerNormalization": (5, 6)}
"""Norm → where its gain and its shift stand among its inputs."""
_MOST = 2.0**14


@dataclass(frozen=True, slots=True)
class _Group:
    """A norm whose output `tensor` these linear nodes read; `alone`: nobody else does."""

    tensor: str
    norm: onnx.NodeProto
    readers: tuple[onnx.NodeProto, ...]
    alone: bool


def balanceable(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the activations that `balance` can balance."""
    return tuple(group.tensor for group in _groups(model))


def balance(model: onnx.ModelProto, seen: Mapping[str, Extremes], strength: float) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return the rewritten graph and the activations that were balanced. `strength`, 0 to 1, is the paper's alpha."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    scales: dict[str, NDArray[np.float32]] = {}
    for group in _groups(model):
        peaks = [np.abs(_rows(node, weights)).max(axis=1) for node in group.readers]
        scale = factors(seen[group.tensor].channels, np.maximum.reduce(peaks), strength)
        scales |= {node.name: scale for node in group.readers}
    return rescale(model, scales)


def rescale(model: onnx.ModelProto, scales: Mapping[str, NDArray[np.float32]]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Divide what linear nodes read by their scale, and multiply their weights by it.

    `scales`: name of a MatMul, Gemm or Attention → float32 [inputs], powers of two. Returns the rewritten graph, which gives the
    same numbers, and the activations that are divided.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    norms = {group.tensor: group for group in _groups(copy)}
    named = {node.name: node for node in copy.graph.node}
    found: dict[tuple[str, bytes], list[onnx.NodeProto]] = {}
    for name, scale in scales.items():
        if not (scale == 1.0).all():
            found.setdefault((named[name].input[0], scale.tobytes()), []).append(named[name])
    for number, ((tensor, _), readers) in enumerate(found.items()):
        scale = scales[readers[0].name]
        for node in readers:
            node.input[1] = _put(copy, f"{node.input[1]}_balanced_{node.name}", _times(node, weights, scale))
        group = norms.get(tensor)
        if group is not None and group.alone and len(group.readers) == len(readers):
            for at in _NORMS[group.norm.op_type]:
                if at < len(group.norm.input) and group.norm.input[at]:
                    value = numpy_helper.to_array(weights[group.norm.input[at]]) / scale
                    group.norm.input[at] = _put(copy, f"{group.norm.input[at]}_balanced_{group.norm.name}", value)
            continue
        again = sum(name == tensor for name, _ in list(found)[:number])  # read with another scale as well
        ending = f"_{again + 1}" if again else ""
        by = _put(copy, f"{tensor}_balance{ending}", 1.0 / scale)
        out = f"{tensor}_balanced{ending}"
        place = next((at for at, node in enumerate(copy.graph.node) if tensor in node.output), -1) + 1
        name = f"{tensor if group is None else group.norm.name}_balance{ending}"
        copy.graph.node.insert(place, helper.make_node("Mul", [tensor, by], [out], name))
        for node in readers:
            node.input[0] = out
    _forget(copy)
    return copy, tuple(dict.fromkeys(tensor for tensor, _ in found))


def _groups(model: onnx.ModelProto) -> Iterator[_Group]:
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    outputs = {value.name for value in model.graph.output}
    for norm in model.graph.node:
        if norm.op_type not in _NORMS or any(
            norm.input[at] not in weights for at in _NORMS[norm.op_type] if at < len(norm.input) and norm.input[at]
        ):
            continue
        tensor = norm.output[0]
        readers = [node for node in model.graph.node if tensor in node.input]
        linear = tuple(node for node in readers if _is_linear(node, tensor, weights))
        if linear:
            alone = len(linear) == len(readers) and tensor not in outputs and not any(norm.output[1:])
            yield _Group(tensor, norm, linear, alone)


def _is_linear(node: onnx.NodeProto, tensor: str, weights: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type not in ("Attention", "MatMul", "Gemm") or list(node.input).count(tensor) != 1 or node.input[0] != tensor:
        return False
    flags = {each.name: each.i for each in node.attribute}
    found = weights.get(node.input[1]) if len(node.input) > 1 else None
    return found is not None and len(found.dims) == 2 and not flags.get("transA")


def _rows(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> NDArray[np.float32]:
    """Return the weights as [inputs, outputs]."""
    values: NDArray[np.float32] = numpy_helper.to_array(weights[node.input[1]])
    return values.T if _turned(node) else values


def _times(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    values = _rows(node, weights) * scale[:, None]
    return values.T if _turned(node) else values


def _turned(node: onnx.NodeProto) -> bool:
    return any(each.name == "transB" and each.i for each in node.attribute)


def factors(activation: NDArray[np.float64], weight: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """Return by what each channel is divided, powers of two, float32 [channels].

    `activation` and `weight`: the largest magnitudes of each, [channels].
    """
    some = (activation > 0) & (weight > 0)
    wide, heavy = np.where(some, activation, 1.0), np.where(some, weight, 1.0).astype(np.float64)
    scale = np.clip(wide**strength / heavy ** (1.0 - strength), 1.0 / _MOST, _MOST)
    # Of all channels alike nothing is gained: the middle one keeps its size, so that weights stay near what they were.
    logs = np.log2(scale)
    found: NDArray[np.float32] = np.where(some, 2.0 ** np.round(logs - np.median(logs)), 1.0).astype(np.float32)
    return found


def _put(model: onnx.ModelProto, name: str, values: NDArray[np.float32]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name))
    return name


def _forget(model: onnx.ModelProto) -> None:
    """Drop the weights that nothing reads any more."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
