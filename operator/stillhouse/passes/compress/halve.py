"""`halve`: FP32 ONNX → weights of 16 bits, half of the size.

Weights are stored in FP16 or BF16 and cast to FP32 before what reads them. ONNX Runtime does the casts once, when it loads the
model; all operators, norms, softmax and pooling among them, compute in FP32 as before, and inputs and outputs stay FP32. A graph
of operators of 16 bits would gain nothing: on CPUs ONNX Runtime casts what those of FP16 are given and computes in FP32, and it
has no products and sums of BF16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stillhouse.errors import SourceError
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.compress.checked import write_checked
from stillhouse.passes.export.tidy import tidy

__all__ = ["Halve", "HalveConfig", "HalveFacts", "halved"]

Stored = Literal["fp16", "bf16"]

_SMALL, _LEAST = 1024, 128
"""Rows of gains and shifts, and tables of fewer numbers, weigh nothing and stay as they are; in a model that has no others those
of 128 are halved, below which the cast is longer than what it saves."""
_LARGEST: Mapping[Stored, float] = {"fp16": 65504.0, "bf16": 255 * 2.0**120}
_BF16_OPSET = 13
"""Since when ONNX's Cast knows BF16."""


class HalveConfig(PassConfig):
    """Configuration of `halve`."""

    to: Stored = "fp16"
    """What weights are stored in: FP16 has 11 bits of a number and ends at 65504, BF16 has 8 bits and the range of FP32."""


@dataclass(frozen=True, slots=True)
class HalveFacts:
    """What was halved: numbers of weights, and of those how many have 16 bits now. `kept` are weights beyond what these can say.

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
    """onnx-model FP32 → onnx-model with weights in FP16 or BF16."""

    name = "halve"
    version = 1
    kind = "onnx-model"
    config_type = HalveConfig

    def run(self, config: HalveConfig, inputs: Mapping[str, Artifact], ctx: Context) -> HalveFacts:
        """Halve `inputs["model"]`.

        Raises:
            SourceError: it has no weights to halve, is older than BF16, or what is made is no working model.
        """
        source = inputs["model"].path
        called = config.to.upper()
        model = onnx.load(source / "model.onnx", load_external_data=False)
        tables, kept = _tables(model, config.to)
        if not tables:
            held = config.to == "fp16" and _tables(model, "bf16")[0]
            raise SourceError(
                "nothing in the model can be halved",
                field="spec.compress.precision",
                found=f"no table of {_LEAST} float32 numbers or more that {called} can hold",
                fix=f'set spec.compress.precision to "{"bf16" if held else "fp32"}"',
            )
        if config.to == "bf16":
            _knows_bf16(model)
        else:
            for note in _nearer_in_bf16(model, tables, kept):
                ctx.progress.note(note)
        instead = 'set spec.compress.precision to "fp32"'
        made = write_checked(lambda: halved(model, config.to), inputs["model"], ctx, called, instead)
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


def halved(model: onnx.ModelProto, to: Stored = "fp16") -> onnx.ModelProto:
    """Return the graph with its tables in 16 bits: each number the nearest, of ties the even one. The given graph is left."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tables = set(_tables(copy, to)[0])
    casts = []
    for tensor in copy.graph.initializer:
        if tensor.name in tables:
            name, stored = tensor.name, f"{tensor.name}_{to}"
            values = _values(tensor)
            if to == "fp16":
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
            else:
                bits = _bf16(values).astype("<u2").tobytes()
                tensor.CopyFrom(helper.make_tensor(stored, onnx.TensorProto.BFLOAT16, values.shape, bits, raw=True))
            casts.append(helper.make_node("Cast", [stored], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return tidy(copy, model.graph.output[0].name)


def _tables(model: onnx.ModelProto, to: Stored) -> tuple[list[str], tuple[str, ...]]:
    """Return the weights that 16 bits can hold, and those that are large and go beyond it."""
    sizes = {each.name: int(np.prod(each.dims)) for each in model.graph.initializer if _is_float(each) and len(each.dims) > 1}
    least = _SMALL if max(sizes.values(), default=0) >= _SMALL else _LEAST
    large = [each for each in model.graph.initializer if sizes.get(each.name, 0) >= least]
    beyond = tuple(each.name for each in large if not np.abs(_values(each)).max(initial=0.0) <= _LARGEST[to])
    return [each.name for each in large if each.name not in beyond], beyond


def _nearer_in_bf16(model: onnx.ModelProto, tables: list[str], kept: tuple[str, ...]) -> Iterator[str]:
    """Say which weights BF16 would keep better: those beyond FP16, and those so small that FP16 has few digits left, or none."""
    if kept:
        yield f"weights beyond FP16's 65504 stay in FP32: {_some(kept)}; precision bf16 holds them"
    small = []
    for tensor in model.graph.initializer:
        if tensor.name in tables:
            values = _values(tensor)
            half = np.abs(values.astype(np.float16).astype(np.float32) - values)
            brain = np.abs((_bf16(values).astype(np.uint32) << 16).view(np.float32) - values)
            if half.sum(dtype=np.float64) > brain.sum(dtype=np.float64):
                small.append(tensor.name)
    if small:
        yield f"weights so small that FP16 rounds them more than BF16 would: {_some(small)}; try precision bf16"


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def _bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of FP32's bits, rounded to nearest, ties to even. `values`: none beyond the largest BF16."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    found: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return found


def _knows_bf16(model: onnx.ModelProto) -> None:
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < _BF16_OPSET:
        raise SourceError(
            "the model's ONNX is older than BF16",
            field="spec.compress.precision",
            found=f"opset {opset}",
            allowed=f"opset {_BF16_OPSET} or later",
            fix='set spec.compress.precision to "fp16", or export the model again with opset 17',
        )


def _is_float(tensor: onnx.TensorProto) -> bool:
    return int(tensor.data_type) == int(onnx.TensorProto.FLOAT)


def _values(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    values: NDArray[np.float32] = numpy_helper.to_array(tensor)
    return values
