"""`quantize-trained`: FP32 ONNX of a network that learned to live with rounding → INT8 with the scales that it learned in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.compress.calibrating import RoundingConfig, calibrate
from stillhouse.passes.compress.checked import write_checked
from stillhouse.passes.compress.feeds import tell_one_class
from stillhouse.passes.compress.learned import placed
from stillhouse.passes.compress.ranges import Range
from stillhouse.passes.compress.smooth import rescale
from stillhouse.passes.compress.static_graph import quantize_static, static_operators, watched
from stillhouse.passes.compress.unfused import can_be_unfused, unfused

__all__ = ["QuantizeTrained", "QuantizeTrainedConfig", "QuantizeTrainedFacts"]

_INSTEAD = "remove spec.compress.qat"


class QuantizeTrainedConfig(RoundingConfig):
    """As of `quantize-static`, for activations between layers, which no layer has learned: of convolutions what they give."""


@dataclass(frozen=True, slots=True)
class QuantizeTrainedFacts:
    """What was quantized.

    `learned`: operators whose input's scale is the trained one; `read`: activations whose range was read off calibration rows,
    of which `rows` there were; `balanced`: activations that are divided before. `weights` is a number of FP32 weights. Cosines
    compare rows of INT8 with FP32 outputs on random inputs: a check that the graph works, no measure of quality.
    """

    size: int
    size_before: int
    quantized: tuple[str, ...]
    learned: int
    read: int
    rows: int
    balanced: tuple[str, ...]
    weights: int
    operators: dict[str, int]
    mean_cosine_random: float
    min_cosine_random: float
    reduce_range: bool


class QuantizeTrained(Pass[QuantizeTrainedConfig, QuantizeTrainedFacts]):
    """onnx-model FP32, and the torch-model that it was exported from, with its `quantization.json` → onnx-model INT8."""

    name = "quantize-trained"
    version = 1
    kind = "onnx-model"
    config_type = QuantizeTrainedConfig

    def run(self, config: QuantizeTrainedConfig, inputs: Mapping[str, Artifact], ctx: Context) -> QuantizeTrainedFacts:
        """Quantize `inputs["model"]` as `inputs["trained"]` says; `inputs["data"]` calibrates what it says nothing of.

        Raises:
            DataError: rows that cannot calibrate.
            SourceError: none of the trained layers is in the graph, or the result is no working model.
        """
        source = inputs["model"].path
        model = _tables_apart(onnx.load(source / "model.onnx", load_external_data=False))
        operators = static_operators(model)
        learned = placed(model, operators, inputs["trained"].path)
        if not learned:
            raise SourceError(
                "no layer that learned to live with rounding is in the graph",
                field="spec.compress.qat",
                found=", ".join(operator.name for operator in operators)[:200] or "no linear layer or convolution",
                allowed="a graph whose operators have the network's weights",
                fix=_INSTEAD,
            )
        scales = {name: np.array(each.balance, np.float32) for name, each in learned.items() if each.balance}
        rewritten, balanced = rescale(model, scales)
        given = {node.name: node.input[0] for node in rewritten.graph.node if node.input}
        ranges: dict[str, Range] = {given[name]: each.range for name, each in learned.items()}
        missing = [name for name in watched(rewritten) if name not in ranges]
        rows = 0
        if missing:
            found = calibrate(
                source, Signature.read(source), rewritten, inputs["data"], config.model_copy(update={"balance": 0.0}),
                config.samples, ctx.threads, lambda done, total: ctx.progress.update(done, total, "rows", "calibrating"),
            )  # fmt: skip
            tell_one_class(inputs["data"], ctx)
            ranges, rows = {**found.ranges, **ranges}, found.rows

        def make() -> onnx.ModelProto:
            return quantize_static(rewritten, ranges, reduce_range=config.reduce_range)

        made = write_checked(make, inputs["model"], ctx, "INT8", _INSTEAD)
        return QuantizeTrainedFacts(
            size=made.size,
            size_before=(source / "model.onnx").stat().st_size,
            quantized=tuple(operator.name for operator in operators),
            learned=len(learned),
            read=len(missing),
            rows=rows,
            balanced=balanced,
            weights=sum(operator.weights for operator in operators),
            operators=made.operators,
            mean_cosine_random=made.parity.mean_cosine,
            min_cosine_random=made.parity.min_cosine,
            reduce_range=config.reduce_range,
        )


def _tables_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its embeddings' sum and norm as operators of their own.

    The fused one rounds the norm's gain and shift as well, in one scale each, which the network has not learned with.
    """
    fused = [node.name for node in model.graph.node if node.op_type == "EmbedLayerNormalization" and can_be_unfused(model, node)]
    return unfused(model, fused)
