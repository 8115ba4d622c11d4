"""`sensitivity`: what quantizing one operator alone does to the outputs, for every operator that can be quantized."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.compress.calibrating import StaticConfig, calibrate
from stillhouse.passes.compress.feeds import ForeseesPoorRows, calibration_feeds, tell_one_class
from stillhouse.passes.compress.quantize import Operator, quantizable, quantize
from stillhouse.passes.compress.static_graph import quantize_static, static_operators
from stillhouse.passes.export.samples import Feed
from stillhouse.passes.export.timing import open_session

__all__ = [
    "MEASUREMENT_FILE",
    "OperatorDamage",
    "Sensitivity",
    "SensitivityConfig",
    "SensitivityFacts",
    "damage",
    "outputs_of",
]

MEASUREMENT_FILE = "measurement.json"
_BUDGET_S = 600.0
"""Time for all operators together; the heaviest come first, what is left is listed as not measured."""


class SensitivityConfig(PassConfig):
    """Configuration of `sensitivity`: rows of calibration data, how many operators the facts list, 7-bit weights, threads.

    `recurrent`: LSTMs are measured too. `static`: how static quantization would find its ranges, where its damage is measured;
    None: dynamic quantization's.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    samples: int = Field(default=64, ge=1, le=100_000)
    top: int = Field(default=8, ge=1, le=4096)
    reduce_range: bool = False
    threads: int = Field(default=1, ge=1, le=256)
    recurrent: bool = False
    static: StaticConfig | None = None


@dataclass(frozen=True, slots=True)
class OperatorDamage:
    """One operator quantized alone: mean and largest damage over the rows (see `damage`), and its FP32 weights."""

    name: str
    type: str
    weights: int
    damage: float
    worst: float


@dataclass(frozen=True, slots=True)
class SensitivityFacts:
    """The most sensitive operators first (`top` of them); `together` is the damage with all of them quantized.

    `measure` names the damage's unit, `unmeasured` the operators that the time did not reach.
    """

    measure: str
    rows: int
    together: float
    top: tuple[dict[str, Any], ...]
    measured: int
    unmeasured: tuple[str, ...]


class Sensitivity(ForeseesPoorRows, Pass[SensitivityConfig, SensitivityFacts]):
    """onnx-model FP32 and calibration data → `measurement`: operators ordered by the damage that INT8 does to each."""

    name = "sensitivity"
    version = 1
    kind = "measurement"
    config_type = SensitivityConfig

    def run(self, config: SensitivityConfig, inputs: Mapping[str, Artifact], ctx: Context) -> SensitivityFacts:
        """Measure every operator; what was measured is kept in `ctx.scratch` and not measured again.

        Raises:
            DataError: the calibration data has no column that the model takes.
            SourceError: nothing in the graph can be quantized.
        """
        source = inputs["model"].path
        signature = Signature.read(source)
        model = onnx.load(source / "model.onnx", load_external_data=False)
        listed = quantizable(model, recurrent=config.recurrent) if config.static is None else static_operators(model)
        operators = sorted(listed, key=lambda operator: (-operator.weights, operator.name))
        if not operators:
            raise SourceError(
                "nothing in the model can be quantized",
                field="spec.compress.precision",
                found="no linear layer, attention or embedding with float32 weights",
                fix='set spec.compress.precision to "fp32"',
            )
        feeds = calibration_feeds(source, signature, inputs["data"], config.samples)
        tell_one_class(inputs["data"], ctx)
        reference = outputs_of(open_session(source / "model.onnx", config.threads), feeds)

        make = self._make(config, source, signature, model, inputs["data"], ctx)

        def measure(only: Sequence[str]) -> tuple[float, float]:
            session = open_session(make(only).SerializeToString(), config.threads)
            rows = damage(signature.task, reference, outputs_of(session, feeds))
            return float(rows.mean()), float(rows.max())

        together = measure([operator.name for operator in operators])[0]
        measured = _each(operators, measure, ctx)
        order = sorted(measured, key=lambda item: (-item.damage, item.name))
        facts = SensitivityFacts(
            measure="1 - cosine" if signature.task == "sentence-embedding" else "KL divergence (nats)",
            rows=len(reference),
            together=together,
            top=tuple(asdict(item) for item in order[: config.top]),
            measured=len(order),
            unmeasured=tuple(sorted({operator.name for operator in operators} - {item.name for item in order})),
        )
        data = {**asdict(facts), "version": 1, "operators": [asdict(item) for item in order]}
        (ctx.out / MEASUREMENT_FILE).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        return facts

    def _make(
        self,
        config: SensitivityConfig,
        source: Path,
        signature: Signature,
        model: onnx.ModelProto,
        data: Artifact,
        ctx: Context,
    ) -> Callable[[Sequence[str]], onnx.ModelProto]:
        """Return what quantizes some operators alone."""
        if config.static is None:
            reduced, recurrent = config.reduce_range, config.recurrent
            return lambda only: quantize(model, per_channel=True, reduce_range=reduced, only=only, recurrent=recurrent)
        found = calibrate(
            source, signature, model, data, config.static, config.samples, config.threads,
            lambda done, total: ctx.progress.update(done, total, "rows", "calibrating"),
        )  # fmt: skip
        return lambda only: quantize_static(found.model, found.ranges, reduce_range=config.reduce_range, only=only)


def damage(task: str, reference: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the damage of each row of two arrays [rows, n], 0 for equal rows.

    Embeddings: 1 - cosine. Logits: KL(softmax(reference) ‖ softmax(found)) in nats. Numbers that are not finite: infinite.
    """
    wanted, given = reference.astype(np.float64), found.astype(np.float64)
    if not np.isfinite(given).all():
        return np.full(len(wanted), np.inf)
    if task == "sentence-embedding":
        norms = np.linalg.norm(wanted, axis=-1) * np.linalg.norm(given, axis=-1)
        cosines: NDArray[np.float64] = (wanted * given).sum(-1) / np.maximum(norms, 1e-12)
        return 1.0 - cosines
    log_p, log_q = (logits - _log_sum(logits) for logits in (wanted, given))
    divergence: NDArray[np.float64] = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    return divergence


def _log_sum(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    top = logits.max(-1, keepdims=True)
    total: NDArray[np.float64] = np.log(np.exp(logits - top).sum(-1, keepdims=True)) + top
    return total


def _each(
    operators: Sequence[Operator], measure: Callable[[Sequence[str]], tuple[float, float]], ctx: Context
) -> list[OperatorDamage]:
    path = ctx.scratch / "measured.json"
    known = _read(path)
    began = time.monotonic()
    for number, operator in enumerate(operators):
        if operator.name not in known:
            if time.monotonic() - began > _BUDGET_S:
                ctx.progress.note(f"sensitivity: stopped after {_BUDGET_S:.0f} s, {number} of {len(operators)} measured")
                break
            mean, worst = measure([operator.name])
            known[operator.name] = [mean, worst]
            aside = path.with_suffix(".tmp")
            aside.write_text(json.dumps(known), encoding="utf-8")
            aside.replace(path)
        ctx.progress.update(number + 1, len(operators), "operators", operator.name)
    return [
        OperatorDamage(operator.name, operator.type, operator.weights, *known[operator.name])
        for operator in operators
        if operator.name in known
    ]


def _read(path: Path) -> dict[str, list[float]]:
    try:
        data = json.loads(path.read_bytes())
        return {str(name): [float(values[0]), float(values[1])] for name, values in data.items()}
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        return {}


def outputs_of(session: Any, feeds: Sequence[Feed]) -> NDArray[np.float32]:
    """Return a session's first output on every feed, float32 [rows, n]."""
    made: NDArray[np.float32] = np.concatenate([session.run(None, feed)[0] for feed in feeds])
    return made
