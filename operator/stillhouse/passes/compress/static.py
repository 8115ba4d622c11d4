"""`quantize-static`: FP32 ONNX and calibration rows → INT8 whose activations have scales of their own, known before any run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from pydantic import Field

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.compress.calibrating import RoundingConfig, StaticConfig, calibrate
from stillhouse.passes.compress.checked import write_checked
from stillhouse.passes.compress.dynamic import most_sensitive
from stillhouse.passes.compress.feeds import ForeseesPoorRows, tell_one_class
from stillhouse.passes.compress.static_graph import quantize_static, static_operators

__all__ = ["QuantizeStatic", "QuantizeStaticConfig", "QuantizeStaticFacts"]


_INSTEAD = "write spec.compress.int8: {ranges: dynamic}; of a model in safetensors also spec.compress.precision: fp32"


class QuantizeStaticConfig(RoundingConfig):
    """Configuration of `quantize-static`; `exclude`: how many operators stay FP32."""

    exclude: int = Field(default=0, ge=0, le=4096)


@dataclass(frozen=True, slots=True)
class QuantizeStaticFacts:
    """What was quantized.

    `quantized` and `kept` are node names of the FP32 graph, `weights` and `weights_quantized` numbers of FP32 weights. `rows`
    were read for `ranges` (method), `balanced` are activations that were balanced before. Cosines compare rows of INT8 with FP32
    outputs on random inputs, which are not what was calibrated on: a check that the graph works, not a measure of quality.
    """

    size: int
    size_before: int
    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    weights: int
    weights_quantized: int
    ranges: str
    rows: int
    balanced: tuple[str, ...]
    operators: dict[str, int]
    mean_cosine_random: float
    min_cosine_random: float
    reduce_range: bool


class QuantizeStatic(ForeseesPoorRows, Pass[QuantizeStaticConfig, QuantizeStaticFacts]):
    """onnx-model FP32 and calibration data → onnx-model INT8."""

    name = "quantize-static"
    version = 1
    kind = "onnx-model"
    config_type = QuantizeStaticConfig

    def run(self, config: QuantizeStaticConfig, inputs: Mapping[str, Artifact], ctx: Context) -> QuantizeStaticFacts:
        """Quantize `inputs["model"]` by ranges of `inputs["data"]`; `inputs["sensitivity"]` orders what `exclude` keeps.

        Raises:
            SpecError: `exclude` without a sensitivity measurement.
            DataError: rows that cannot calibrate.
            SourceError: nothing in the graph can be quantized, its activations are not finite, or the result is no working model.
        """
        source = inputs["model"].path
        model = onnx.load(source / "model.onnx", load_external_data=False)
        operators = static_operators(model)
        if not operators:
            raise SourceError(
                "nothing in the model can be quantized",
                field="spec.compress.precision",
                found="no convolution, linear layer, attention or embedding with float32 weights",
                fix='set spec.compress.precision to "fp32"',
            )
        kept = most_sensitive(config.exclude, inputs.get("sensitivity"), {operator.name for operator in operators})
        how = StaticConfig(ranges=config.ranges, percentile=config.percentile, balance=config.balance)
        found = calibrate(
            source, Signature.read(source), model, inputs["data"], how, config.samples, ctx.threads,
            lambda done, total: ctx.progress.update(done, total, "rows", "calibrating"),
        )  # fmt: skip
        tell_one_class(inputs["data"], ctx)

        def make() -> onnx.ModelProto:
            return quantize_static(found.model, found.ranges, reduce_range=config.reduce_range, exclude=kept)

        made = write_checked(make, inputs["model"], ctx, "INT8", _INSTEAD)
        return QuantizeStaticFacts(
            size=made.size,
            size_before=(source / "model.onnx").stat().st_size,
            quantized=tuple(operator.name for operator in operators if operator.name not in kept),
            kept=tuple(kept),
            weights=sum(operator.weights for operator in operators),
            weights_quantized=sum(operator.weights for operator in operators if operator.name not in kept),
            ranges=config.ranges,
            rows=found.rows,
            balanced=found.balanced,
            operators=made.operators,
            mean_cosine_random=made.parity.mean_cosine,
            min_cosine_random=made.parity.min_cosine,
            reduce_range=config.reduce_range,
        )
