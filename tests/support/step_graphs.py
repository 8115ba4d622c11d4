"""ONNX graphs for the steps of pipelines: a logistic regression and a rule, whose answers numpy can give as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Regression", "write_graph", "write_rule"]

Array = npt.NDArray[Any]


def write_graph(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Array]) -> Path:
    """Write a graph of opset 17. `inputs` and `outputs`: name, type, shape."""
    graph = helper.make_graph(
        nodes,
        "step",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@dataclass(frozen=True)
class Regression:
    """`features` FP32 [n, dimension] → `odds` FP32 [n, classes], and `choice` INT64 [n]."""

    weight: Array
    bias: Array

    @classmethod
    def random(cls, dimension: int, classes: int, seed: int = 5) -> Regression:
        numbers = np.random.default_rng(seed)
        return cls(numbers.normal(size=(dimension, classes)).astype(np.float32), numbers.normal(size=classes).astype(np.float32))

    def write(self, path: Path, *, choice: bool = True) -> Path:
        nodes = [
            helper.make_node("MatMul", ["features", "weight"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["sum"]),
            helper.make_node("Softmax", ["sum"], ["odds"], axis=1),
            helper.make_node("ArgMax", ["odds"], ["choice"], axis=1, keepdims=0),
        ]
        outputs = [("odds", TensorProto.FLOAT, ["batch", self.weight.shape[1]]), ("choice", TensorProto.INT64, ["batch"])]
        inputs = [("features", TensorProto.FLOAT, ["batch", self.weight.shape[0]])]
        parts = 4 if choice else 3
        return write_graph(path, nodes[:parts], inputs, outputs[: parts - 2], {"weight": self.weight, "bias": self.bias})

    def odds(self, features: Array) -> Array:
        logits = features.astype(np.float64) @ self.weight + self.bias
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Array = shifted / shifted.sum(axis=1, keepdims=True)
        return found


def write_rule(path: Path, classes: int, limit: float) -> Path:
    """`odds` FP32 [n, classes], `choice` INT64 [n] → `sure` BOOL [n, 1]: the first class is above `limit`, and is the choice."""
    nodes = [
        helper.make_node("Gather", ["odds", "zero"], ["first"], axis=1),
        helper.make_node("Greater", ["first", "limit"], ["above"]),
        helper.make_node("Unsqueeze", ["choice", "last"], ["column"]),
        helper.make_node("Equal", ["column", "zero"], ["chosen"]),
        helper.make_node("And", ["above", "chosen"], ["sure"]),
    ]
    weights = {
        "zero": np.array([0], np.int64),
        "last": np.array([1], np.int64),
        "limit": np.array([limit], np.float32),
    }
    inputs = [("odds", TensorProto.FLOAT, ["batch", classes]), ("choice", TensorProto.INT64, ["batch"])]
    return write_graph(path, nodes, inputs, [("sure", TensorProto.BOOL, ["batch", 1])], weights)
