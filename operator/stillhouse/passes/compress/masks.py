"""An encoder whose masks come from the mask alone, so that it can be cut between any two layers.

Exporters make the mask that every layer reads of `attention_mask` and of the sizes of the first layer's activations: all layers
then hang on the first. Those sizes are the mask's own, [rows, tokens]; read there, each half can make its own mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["MASK", "sizes_of_mask"]

MASK = "attention_mask"
_SIZES = "stillhouse_sizes"


def sizes_of_mask(model: onnx.ModelProto, feeds: Sequence[Mapping[str, Any]], output: str) -> onnx.ModelProto:
    """Return the model with sizes read of the mask, or the model itself where that is not the same, bit for bit, on `feeds`."""
    changed = _rewritten(model)
    if changed is None:
        return model
    try:
        wanted, found = (_answers(each, feeds, output) for each in (model, changed))
    except Exception:
        return model
    return changed if all(map(np.array_equal, wanted, found)) else model


def _rewritten(model: onnx.ModelProto) -> onnx.ModelProto | None:
    if MASK not in {each.name for each in model.graph.input}:
        return None
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in inferred}
    numbers = {each.name: each for each in graph.initializer}
    numbers |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
    }
    shapes = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Shape" and not node.attribute}
    found = False
    for node in graph.node:
        if node.op_type != "Gather" or ranks.get(shapes.get(node.input[0], "")) != 3 or node.input[1] not in numbers:
            continue
        which = numpy_helper.to_array(numbers[node.input[1]])
        if which.size == 1 and which.item() in (0, 1):  # rows or tokens of an activation [rows, tokens, width]
            node.input[0] = _SIZES
            found = True
    if not found:
        return None
    graph.node.insert(0, helper.make_node("Shape", [MASK], [_SIZES]))
    return made


def _answers(model: onnx.ModelProto, feeds: Sequence[Mapping[str, Any]], output: str) -> list[Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run([output], dict(feed))[0] for feed in feeds]
