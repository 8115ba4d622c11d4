"""`quantize-mixed`: each operator in INT4, INT8 or FP32, the smallest model within a loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.compress.assigning import Assigned, assign, moves
from stillhouse.passes.compress.checked import write_checked
from stillhouse.passes.compress.int4 import lowering
from stillhouse.passes.compress.levels import loss_of, measuring, read_levels
from stillhouse.passes.compress.lowering import LoweredConfig, Precision, read

__all__ = ["MixedConfig", "MixedFacts", "QuantizeMixed"]

MODEL_FILE = "model.onnx"


class MixedConfig(LoweredConfig):
    """Configuration of `quantize-mixed`.

    `max_loss`: see `spec.compress.mixed.maxLoss`, as a share. `strict`: where not even one operator is within it, say so; else
    the gentlest one is quantized, and the gate judges.
    """

    max_loss: float = Field(default=0.01, gt=0, le=1)
    strict: bool = True


@dataclass(frozen=True, slots=True)
class MixedFacts:
    """What was chosen.

    `precisions`: node name of the FP32 graph → its precision. `weights`: precision → how many weights have it. `loss` is what
    they lose together on the calibration rows (a share), `lowest` what the lowest precisions lose: the smallest model there is.
    `measured`: models that were measured to find it.
    """

    size: int
    size_before: int
    precisions: dict[str, Precision]
    weights: dict[str, int]
    loss: float
    max_loss: float
    lowest: float
    measured: int
    operators: dict[str, int]
    mean_cosine_random: float
    min_cosine_random: float


class QuantizeMixed(Pass[MixedConfig, MixedFacts]):
    """onnx-model FP32, calibration data and what operators lose on it → onnx-model of several precisions."""

    name = "quantize-mixed"
    version = 1
    kind = "onnx-model"
    config_type = MixedConfig

    def run(self, config: MixedConfig, inputs: Mapping[str, Artifact], ctx: Context) -> MixedFacts:
        """Choose by `inputs["sensitivity"]`, measure on `inputs["data"]`, write.

        Raises:
            SourceError: nothing can be quantized, or nothing within the loss; or the result is not a working model.
            DataError: the calibration data has no column that the model takes.
        """
        source = inputs["model"].path
        task = Signature.read(source).task
        found = lowering(read(source), config, inputs, ctx)
        _, measure = measuring(inputs, config.samples, config.threads, found.made)
        steps = moves(read_levels(inputs["sensitivity"]))
        seen = 0

        def loss(choice: Mapping[str, Precision]) -> float:
            nonlocal seen
            seen += 1
            lost = loss_of(task, measure(choice))
            ctx.progress.update(seen, None, "models", f"{_counted(choice)}: loses {lost:.2%}")
            return lost

        assigned = assign(steps, config.max_loss, loss)
        choice = dict(assigned.choice)
        if not choice:
            if config.strict or not steps:
                raise _too_little(config.max_loss, assigned, str(steps[0].operator) if steps else "")
            choice = {steps[0].operator: steps[0].precision}
        made = write_checked(lambda: found.made(choice), inputs["model"], ctx, "mixed precisions")
        precisions: dict[str, Precision] = {each.name: choice.get(each.name, "fp32") for each in found.operators}
        weights = Counter[str]()
        for each in found.operators:
            weights[precisions[each.name]] += each.weights
        before = (source / MODEL_FILE).stat().st_size
        reached = assigned.loss if assigned.choice else assigned.first
        ctx.progress.note(
            f"mixed: {_counted(precisions)}, {made.size / before:.1%} of FP32's size, loses {reached:.2%} of at most "
            f"{config.max_loss:.2%} (all in the lowest: {assigned.lowest:.2%})"
        )
        return MixedFacts(
            size=made.size,
            size_before=before,
            precisions=precisions,
            weights=dict(sorted(weights.items())),
            loss=reached,
            max_loss=config.max_loss,
            lowest=assigned.lowest,
            measured=assigned.measured,
            operators=made.operators,
            mean_cosine_random=made.parity.mean_cosine,
            min_cosine_random=made.parity.min_cosine,
        )


def _counted(choice: Mapping[str, Precision]) -> str:
    counts = Counter(choice.values())
    return ", ".join(f"{counts[each]} {each}" for each in ("int4", "int8", "fp32") if counts[each])


def _too_little(budget: float, assigned: Assigned, gentlest: str) -> SourceError:
    nearest = f"{assigned.first:.3%}"
    return SourceError(
        "no operator can be quantized within so little a loss",
        field="spec.compress.mixed.maxLoss",
        found=f"{budget:.3%}; the gentlest step ({gentlest}) loses {nearest}",
        allowed=f"at least {nearest}",
        fix='raise maxLoss, or set spec.compress.precision to "fp32"',
    )
