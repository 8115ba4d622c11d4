"""`quantize-int4`: FP32 ONNX → weights of 4 bits, activations FP32 outside of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import onnx

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.compress.checked import write_checked
from stillhouse.passes.compress.feeds import ForeseesPoorRows, calibration_feeds, tell_one_class
from stillhouse.passes.compress.lowering import LoweredConfig, Lowering, read
from stillhouse.passes.export.samples import Feed

__all__ = ["Int4Config", "Int4Facts", "QuantizeInt4", "lowering"]

MODEL_FILE = "model.onnx"


class Int4Config(LoweredConfig):
    """Configuration of `quantize-int4`."""


@dataclass(frozen=True, slots=True)
class Int4Facts:
    """What was quantized.

    `quantized` are node names of the FP32 graph, `kept` those of operators that INT8 could and INT4 cannot (a width that is odd,
    a layer whose bias is no constant). `method` is how layers were rounded, `filled` how many widths ended inside a block.
    Cosines compare with FP32 outputs on random tokens: a check that the graph works, not a measure of quality.
    """

    size: int
    size_before: int
    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    weights: int
    method: Literal["rtn", "gptq"]
    block_size: int
    filled: int
    operators: dict[str, int]
    mean_cosine_random: float
    min_cosine_random: float


class QuantizeInt4(ForeseesPoorRows, Pass[Int4Config, Int4Facts]):
    """onnx-model FP32 (and calibration data, for `gptq`) → onnx-model INT4."""

    name = "quantize-int4"
    version = 1
    kind = "onnx-model"
    config_type = Int4Config

    def run(self, config: Int4Config, inputs: Mapping[str, Artifact], ctx: Context) -> Int4Facts:
        """Quantize every operator of `inputs["model"]` that can be; `inputs["data"]` is what `gptq` reads.

        Raises:
            SourceError: nothing in the graph can be quantized, or the result is not a working model.
            DataError: the calibration data has no column that the model takes.
        """
        from stillhouse.passes.compress.quantize import quantizable

        source = inputs["model"].path
        model = read(source)
        found = lowering(model, config, inputs, ctx)
        names = [each.name for each in found.operators]
        made = write_checked(lambda: found.made(dict.fromkeys(names, "int4")), inputs["model"], ctx, "INT4")
        facts = Int4Facts(
            size=made.size,
            size_before=(source / MODEL_FILE).stat().st_size,
            quantized=tuple(names),
            kept=tuple(each.name for each in quantizable(model) if each.name not in names),
            weights=sum(each.weights for each in found.operators),
            method=config.method,
            block_size=config.block_size,
            filled=found.filled,
            operators=made.operators,
            mean_cosine_random=made.parity.mean_cosine,
            min_cosine_random=made.parity.min_cosine,
        )
        if facts.filled:
            ctx.progress.note(
                f"{facts.filled} widths are no multiple of {config.block_size}: their last blocks are filled with zeros"
            )
        return facts


def lowering(model: onnx.ModelProto, config: LoweredConfig, inputs: Mapping[str, Artifact], ctx: Context) -> Lowering:
    """Round a model's weights, on `inputs["data"]` where there is some.

    Raises:
        SourceError: nothing in the graph can be quantized.
    """
    source = inputs["model"].path
    feeds: list[Feed] = []
    if "data" in inputs:
        feeds = calibration_feeds(source, Signature.read(source), inputs["data"], config.samples)
        tell_one_class(inputs["data"], ctx)

    def tick(done: int, total: int, what: str) -> None:
        ctx.progress.update(done, total, "weights", what)

    try:
        return Lowering(model, config, feeds, tick)
    except ValueError as error:
        raise nothing(inputs["model"]) from error


def nothing(model: Artifact) -> SourceError:
    """Return the error for a graph that has nothing for INT4."""
    instead: dict[str, Any] = (
        {"fix": "give the model as safetensors under spec.source.uri: of that fp32 can be made as well"}
        if model.facts.get("kind") == "onnx-model"
        else {"fix": 'set spec.compress.precision to "int8" or "fp32"'}
    )
    return SourceError(
        "nothing in the model can be quantized to INT4",
        field="spec.compress.precision",
        found="no linear layer, attention or table of embeddings with float32 weights",
        allowed="linear layers, fused attention, tables of at least 1,024 numbers in rows of even width",
        **instead,
    )
