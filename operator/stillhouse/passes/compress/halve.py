"""`halve`: FP32 ONNX → weights of 16 bits, half of the size.

Weights are stored in FP16 and cast to FP32 before what reads them. ONNX Runtime does the casts once, when it loads the model; all
operators, norms, softmax and pooling among them, compute in FP32 as before, and inputs and outputs stay FP32. A graph of FP16
operators would gain nothing: on CPUs ONNX Runtime casts what they are given and computes in FP32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stillhouse.errors import SourceError
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.compress.checked import write_checked
from stillhouse.passes.export.tidy import tidy

__all__ = ["Halve", "HalveConfig", "HalveFacts", "halved"]

_SMALL = 1024
"""Rows of gains and shifts, and tables of fewer numbers, weigh nothing and stay as they are."""
_LARGEST = 65504.0


class HalveConfig(PassConfig):
    """Configuration of `halve`: nothing to choose."""


@dataclass(frozen=True, slots=True)
class HalveFacts:
    """What was halved: numbers of weights, and of those how many are FP16 now. `kept` are weights beyond what FP16 can say.

    Cosines compare rows with FP32 outputs on random inputs.
    """

    size: int
    size_before: int
    weights: int
    weights_halved: int
    kept: tuple[str, ...]
    max_abs_error_random: float
    mean_cosine_random: float
    min_cosine_random: float


class Halve(Pass[HalveConfig, HalveFacts]):
    """onnx-model FP32 → onnx-model FP16."""

    name = "halve"
    version = 1
    kind = "onnx-model"
    config_type = HalveConfig

    def run(self, config: HalveConfig, inputs: Mapping[str, Artifact], ctx: Context) -> HalveFacts:
        """Halve `inputs["model"]`.

        Raises:
            SourceError: it has no weights to halve, or what is made is no working model.
        """
        source = inputs["model"].path
        model = onnx.load(source / "model.onnx", load_external_data=False)
        tables, kept = _tables(model)
        if not tables:
            raise SourceError(
                "nothing in the model can be halved",
                field="spec.compress.precision",
                found=f"no table of {_SMALL} float32 numbers or more that FP16 can hold",
                fix='set spec.compress.precision to "fp32"',
            )
        made = write_checked(lambda: halved(model), inputs["model"], ctx, "FP16", 'set spec.compress.precision to "fp32"')
        sizes = {each.name: int(np.prod(each.dims)) for each in model.graph.initializer if _is_float(each)}
        return HalveFacts(
            size=made.size,
            size_before=(source / "model.onnx").stat().st_size,
            weights=sum(sizes.values()),
            weights_halved=sum(sizes[name] for name in tables),
            kept=kept,
            max_abs_error_random=made.parity.max_abs_error,
            mean_cosine_random=made.parity.mean_cosine,
            min_cosine_random=made.parity.min_cosine,
        )


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its tables in FP16; the given one is left as it is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tables = set(_tables(copy)[0])
    casts = []
    for tensor in copy.graph.initializer:
        if tensor.name in tables:
            name, stored = tensor.name, f"{tensor.name}_fp16"
            tensor.CopyFrom(numpy_helper.from_array(_values(tensor).astype(np.float16), stored))
            casts.append(helper.make_node("Cast", [stored], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return tidy(copy, model.graph.output[0].name)


def _tables(model: onnx.ModelProto) -> tuple[list[str], tuple[str, ...]]:
    """Return the weights that FP16 can hold, and those that are large and go beyond it."""
    large = [each for each in model.graph.initializer if _is_float(each) and np.prod(each.dims) >= _SMALL and len(each.dims) > 1]
    beyond = tuple(each.name for each in large if not np.abs(_values(each)).max(initial=0.0) <= _LARGEST)
    return [each.name for each in large if each.name not in beyond], beyond


def _is_float(tensor: onnx.TensorProto) -> bool:
    return int(tensor.data_type) == int(onnx.TensorProto.FLOAT)


def _values(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    values: NDArray[np.float32] = numpy_helper.to_array(tensor)
    return values
