"""`quantize-dynamic`: FP32 ONNX → INT8, with the most sensitive operators left in FP32 where asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.errors import SourceError, SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.compress.quantize import quantizable, quantize
from stillhouse.passes.export.parity import measure_parity
from stillhouse.passes.export.samples import Feed, parity_feeds
from stillhouse.passes.export.tidy import operator_counts, write_model
from stillhouse.passes.export.timing import open_session
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = ["QuantizeConfig", "QuantizeDynamic", "QuantizeFacts", "most_sensitive"]

MODEL_FILE = "model.onnx"
_SAMPLES = 24


class QuantizeConfig(PassConfig):
    """Configuration of `quantize-dynamic`.

    `per_channel`: one scale per output channel, else per tensor. `reduce_range`: 7-bit weights instead of 8. `exclude`:
    how many of the most sensitive operators stay FP32. `recurrent`: LSTMs become INT8 too.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    per_channel: bool = True
    reduce_range: bool = False
    exclude: int = Field(default=0, ge=0, le=4096)
    recurrent: bool = False


@dataclass(frozen=True, slots=True)
class QuantizeFacts:
    """What was quantized.

    `quantized` and `kept` are node names of the FP32 graph, `weights` and `weights_quantized` numbers of FP32 weights.
    Cosines compare rows of INT8 with FP32 outputs on random tokens: a check that the graph works, not a measure of
    quality; the gate measures that on text.
    """

    size: int
    size_before: int
    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    weights: int
    weights_quantized: int
    operators: dict[str, int]
    mean_cosine_random: float
    min_cosine_random: float
    reduce_range: bool
    per_channel: bool


class QuantizeDynamic(Pass[QuantizeConfig, QuantizeFacts]):
    """onnx-model FP32 → onnx-model INT8."""

    name = "quantize-dynamic"
    version = 1
    kind = "onnx-model"
    config_type = QuantizeConfig

    def run(self, config: QuantizeConfig, inputs: Mapping[str, Artifact], ctx: Context) -> QuantizeFacts:
        """Quantize `inputs["model"]`; `inputs["sensitivity"]` orders the operators when `exclude` is above 0.

        Raises:
            SpecError: `exclude` without a sensitivity measurement.
            SourceError: nothing in the graph can be quantized, or the result is not a working model.
        """
        source = inputs["model"].path
        signature = Signature.read(source)
        ctx.progress.update(0, 3, "steps", "reading the model")
        model = onnx.load(source / MODEL_FILE, load_external_data=False)
        operators = quantizable(model, recurrent=config.recurrent)
        kept = most_sensitive(config.exclude, inputs.get("sensitivity"), {operator.name for operator in operators})
        ctx.progress.update(1, 3, "steps", "quantizing")
        try:
            quantized = quantize(
                model,
                per_channel=config.per_channel,
                reduce_range=config.reduce_range,
                exclude=kept,
                recurrent=config.recurrent,
            )
            onnx.checker.check_model(quantized)
            size = write_model(quantized, ctx.out / MODEL_FILE)
            session = open_session(ctx.out / MODEL_FILE, ctx.threads)
        except (SourceError, OSError, MemoryError):
            raise
        except Exception as error:  # the quantizer, the checker and ONNX Runtime have no common error
            raise SourceError(
                "the model cannot be quantized to INT8",
                field="spec.compress.precision",
                found=f"{type(error).__name__}: {error}".splitlines()[0][:300],
                allowed="a graph with linear layers, attention or embeddings in float32",
                fix=_instead(inputs["model"]),
            ) from error
        ctx.progress.update(2, 3, "steps", "checking")
        vocabulary = vocabulary_rows(source)
        reference = open_session(source / MODEL_FILE, ctx.threads)

        def expected(feed: Feed) -> NDArray[np.float32]:
            output: NDArray[np.float32] = reference.run(None, feed)[0]
            return output

        parity = measure_parity(session, expected, parity_feeds(signature, _SAMPLES, vocabulary))
        if parity.min_cosine < 0:
            raise SourceError(
                "the INT8 model gives numbers that are not finite, or have nothing to do with FP32's",
                field="spec.compress.precision",
                found=f"lowest cosine {parity.min_cosine:.3f} on random tokens",
                allowed="finite outputs near FP32's",
                fix=_instead(inputs["model"], ', or to "auto" to keep the sensitive operators in FP32'),
            )
        if (source / "tokenizer.json").is_file():
            shutil.copyfile(source / "tokenizer.json", ctx.out / "tokenizer.json")
        signature.write(ctx.out)
        ctx.progress.update(3, 3, "steps", "done")
        return QuantizeFacts(
            size=size,
            size_before=(source / MODEL_FILE).stat().st_size,
            quantized=tuple(operator.name for operator in operators if operator.name not in kept),
            kept=tuple(kept),
            weights=sum(operator.weights for operator in operators),
            weights_quantized=sum(operator.weights for operator in operators if operator.name not in kept),
            operators=operator_counts(quantized),
            mean_cosine_random=parity.mean_cosine,
            min_cosine_random=parity.min_cosine,
            reduce_range=config.reduce_range,
            per_channel=config.per_channel,
        )


def _instead(model: Artifact, more: str = "") -> str:
    """Return what to do instead of INT8. An ONNX source can become nothing else (planning refuses it), an exported model can."""
    if model.facts.get("kind") == "onnx-model":
        return "give the model as safetensors under spec.source.uri: of that fp32 can be made as well"
    return f'set spec.compress.precision to "fp32"{more}'


def most_sensitive(count: int, measurement: Artifact | None, known: set[str]) -> list[str]:
    """Return the `count` operators among `known` that the measurement says are the most sensitive, never all of them.

    Raises:
        SpecError: there is no measurement.
    """
    if count == 0:
        return []
    if measurement is None:
        raise SpecError(
            "operators can be left in FP32 only after their sensitivity was measured",
            field="spec.compress.keepFp32",
            found=str(count),
            allowed="0, or calibration data",
            fix="name data under spec.compress.calibration or spec.distill.data",
        )
    data = json.loads((measurement.path / "measurement.json").read_bytes())
    names = [str(entry["name"]) for entry in data["operators"] if entry["name"] in known]
    # One operator at least is quantized: else this would be the FP32 model under another name.
    return names[: min(count, max(len(known) - 1, 0))]
