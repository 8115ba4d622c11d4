"""How a network that was trained with rounded numbers rounds them, as a file beside its weights; and its layers in a graph.

`quantization.json` names a layer by its weights' tensor in `model.safetensors`. An exporter calls layers otherwise and joins some
(queries, keys and values are one product), but their weights it leaves as they are, apart from a normalisation that it folds into
a convolution, output by output. So a layer's operator is found by its weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from stillhouse.errors import SourceError
from stillhouse.passes.compress.quantize import Operator
from stillhouse.passes.compress.ranges import UINT8_STEPS, Range

__all__ = ["QUANTIZATION_FILE", "Learned", "placed", "read_learned", "write_learned"]

QUANTIZATION_FILE: Final = "quantization.json"
_WEIGHTS_FILE: Final = "model.safetensors"
_CLOSE: Final = 1e-4
"""How much the weights of an output may differ, as a share of its largest: what is left of a folded normalisation."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A layer's input rounded to UINT8: (number - `zero`) times `scale` is what it stands for.

    `tensor` names the layer's weights, [outputs, inputs, …]. `balance`: by what each input is divided before, and its weights are
    multiplied; empty for nothing.
    """

    tensor: str
    scale: float
    zero: int
    balance: tuple[float, ...] = ()

    @property
    def range(self) -> Range:
        """Return what is told apart."""
        return Range(-self.zero * self.scale, (UINT8_STEPS - self.zero) * self.scale)


def write_learned(folder: Path, layers: Iterable[Learned]) -> None:
    """Write the file into an artifact's folder."""
    data = {
        "version": 1,
        "layers": {
            each.tensor: {"scale": each.scale, "zero": each.zero, **({"balance": list(each.balance)} if each.balance else {})}
            for each in layers
        },
    }
    (folder / QUANTIZATION_FILE).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_learned(folder: Path) -> tuple[Learned, ...]:
    """Read the file of an artifact's folder.

    Raises:
        SourceError: it is missing, or not readable.
    """
    path = folder / QUANTIZATION_FILE
    try:
        data = json.loads(path.read_bytes())
        return tuple(
            Learned(str(tensor), float(each["scale"]), int(each["zero"]), tuple(map(float, each.get("balance", ()))))
            for tensor, each in data["layers"].items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SourceError(
            "how the model rounds its numbers is not readable",
            field=str(path),
            found=str(error)[:200],
            fix="build the model again: still rebuild NAME",
        ) from error


def placed(model: onnx.ModelProto, operators: Sequence[Operator], folder: Path) -> dict[str, Learned]:
    """Return operator name → how its input is rounded, of operators whose weights are a layer's of the artifact in `folder`.

    Raises:
        SourceError: its files are not readable.
    """
    from safetensors.numpy import load_file

    layers = read_learned(folder)
    tensors = load_file(folder / _WEIGHTS_FILE)
    rows = {each.tensor: _relative(tensors[each.tensor]) for each in layers if each.tensor in tensors}
    weights = {each.name: each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    nodes = {node.name: node for node in model.graph.node}
    found: dict[str, Learned] = {}
    for operator in operators:
        mine = _of_node(nodes[operator.name], weights)
        if mine is None:
            continue
        layer = next((each for each in layers if each.tensor in rows and _begins(mine, rows[each.tensor])), None)
        if layer is not None:
            found[operator.name] = layer
    return found


def _of_node(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> NDArray[np.float32] | None:
    """Return a node's weights as [outputs, inputs], None for one that looks up rows of a table."""
    if node.op_type not in ("MatMul", "Gemm", "Attention", "Conv"):
        return None
    values: NDArray[np.float32] = numpy_helper.to_array(weights[node.input[1]])
    turned = node.op_type == "Conv" or any(each.name == "transB" and each.i for each in node.attribute)
    return _relative(values if turned else values.T)


def _relative(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weights as [outputs, inputs] where the largest of each output is 1: rounding is the same for any multiple."""
    rows = values.reshape(len(values), -1)
    peaks = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    found: NDArray[np.float32] = rows / np.where(peaks == 0, 1.0, peaks)
    return found


def _begins(operator: NDArray[np.float32], layer: NDArray[np.float32]) -> bool:
    """Say whether an operator is this layer, or this one and others behind it that read the same."""
    count = len(layer)
    return (
        operator.shape[1:] == layer.shape[1:]
        and len(operator) >= count
        and bool(np.abs(operator[:count] - layer).max(initial=0.0) <= _CLOSE)
    )
