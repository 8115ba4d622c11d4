"""INT8 dynamic quantization of an ONNX graph (ONNX Runtime's quantizer), and which operators it touches.

Weights become INT8 once, activations UINT8 at every run (scale and zero point from each tensor's range).
Quantized are linear layers, fused attention and the tables of embeddings; most of a small student is embeddings, and
looking up a quantized row costs nothing that can be measured. LSTMs where `recurrent` asks for it (ONNX Runtime's
DynamicQuantizeLSTM). Convolutions stay in FP32: ONNX Runtime's ConvInteger
has no fast kernel on CPUs, so a quantized image model is smaller and slower at once; static quantization
(`static_graph`) is the way for them.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from stillhouse.passes.export.tidy import tidy

__all__ = ["Operator", "quantizable", "quantize", "quiet"]

_TYPES = ("Attention", "EmbedLayerNormalization", "Gather", "LSTM", "MatMul")
_SMALL = 1024
"""Tables of fewer numbers than this are indices and shapes, not embeddings."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A node that can be quantized: its name in the graph, its type, and how many FP32 weights it holds."""

    name: str
    type: str
    weights: int


def quantizable(model: onnx.ModelProto, *, recurrent: bool = False) -> list[Operator]:
    """Return the operators of an FP32 graph that `quantize` would touch, in graph order; LSTMs where `recurrent` asks for it."""
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    sizes = {tensor.name: _count(tensor.dims) for tensor in floats}
    # Tables of one number a row weigh rows against each other, small ones against large ones: one scale is not enough.
    scales = {tensor.name for tensor in floats if tensor.dims and tensor.dims[-1] == 1}
    found: list[Operator] = []
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Attention"):
            weights = sizes.get(node.input[1], 0) if len(node.input) > 1 else 0
        elif node.op_type == "Gather":
            weights = sizes.get(node.input[0], 0)
            weights = weights if weights >= _SMALL and node.input[0] not in scales else 0
        elif node.op_type == "LSTM":
            weights = sum(sizes.get(name, 0) for name in node.input[1:3]) if recurrent else 0
        elif node.op_type == "EmbedLayerNormalization":
            weights = sum(sizes.get(name, 0) for name in node.input[2:5])
        else:
            weights = 0
        if weights:
            found.append(Operator(node.name, node.op_type, weights))
    return found


def quantize(
    model: onnx.ModelProto,
    *,
    per_channel: bool,
    reduce_range: bool,
    exclude: Iterable[str] = (),
    only: Iterable[str] | None = None,
    recurrent: bool = False,
) -> onnx.ModelProto:
    """Return the INT8 graph.

    `reduce_range` uses 7 bits for weights: on AVX2 without VNNI the 16-bit sums of U8·S8 products saturate with 8.
    `exclude` names nodes that stay FP32, `only` (when given) the ones that do not. `recurrent`: LSTMs as well.

    Raises:
        ValueError: nothing would be quantized.
        Exception: the quantizer's own, for a graph that it cannot handle.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    names = [operator.name for operator in quantizable(model, recurrent=recurrent)]
    chosen = set(names if only is None else only) - set(exclude)
    chosen &= set(names)
    if not chosen:
        raise ValueError("no operator is left to quantize")
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    del clean.graph.value_info[:]  # stale shapes make the quantizer fail: it infers them anew
    with tempfile.TemporaryDirectory(prefix="stillhouse-") as folder, quiet():
        path = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            clean,
            path,
            op_types_to_quantize=list(_TYPES),
            per_channel=per_channel,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            # The quantizer first writes Gemm as MatMul and Add, under the node's name with a suffix.
            nodes_to_quantize=sorted(chosen | {f"{name}_MatMul" for name in chosen}),
            # Outputs of fused operators have no inferred type; all of them are float here.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        return tidy(onnx.load(path), model.graph.output[0].name)


def _count(dimensions: Iterable[int]) -> int:
    count = 1
    for dimension in dimensions:
        count *= dimension
    return count


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the quantizer, which warns and advises."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
