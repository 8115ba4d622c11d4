"""`sensitivity-mixed`: what every operator loses at every precision, alone."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from stillhouse.inference.signature import Signature, Task
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.compress.assigning import Level
from stillhouse.passes.compress.feeds import ForeseesPoorRows, calibration_feeds
from stillhouse.passes.compress.int4 import lowering
from stillhouse.passes.compress.lowering import LoweredConfig, Precision, read
from stillhouse.passes.compress.sensitivity import MEASUREMENT_FILE, damage, outputs_of
from stillhouse.passes.export.timing import open_session

__all__ = ["LevelsConfig", "LevelsFacts", "SensitivityMixed", "loss_of", "measuring", "read_levels"]

_BUDGET_S = 900.0
"""Time for all operators together; the heaviest come first, what is left stays in FP32."""


class LevelsConfig(LoweredConfig):
    """Configuration of `sensitivity-mixed`."""


@dataclass(frozen=True, slots=True)
class LevelsFacts:
    """How many operators were measured, and how many the time did not reach. `measure` names the damage's unit."""

    measure: str
    rows: int
    measured: int
    unmeasured: tuple[str, ...]


class SensitivityMixed(ForeseesPoorRows, Pass[LevelsConfig, LevelsFacts]):
    """onnx-model FP32 and calibration data → `measurement`: every operator's bytes and damage in INT8 and in INT4."""

    name = "sensitivity-mixed"
    version = 1
    kind = "measurement"
    config_type = LevelsConfig

    def run(self, config: LevelsConfig, inputs: Mapping[str, Artifact], ctx: Context) -> LevelsFacts:
        """Measure every operator; what was measured is kept in `ctx.scratch` and not measured again.

        Raises:
            DataError: the calibration data has no column that the model takes.
            SourceError: nothing in the graph can be quantized.
        """
        source = inputs["model"].path
        signature = Signature.read(source)
        found = lowering(read(source), config, inputs, ctx)
        rows, measure = measuring(inputs, config.samples, config.threads, found.made)
        order = sorted(found.operators, key=lambda each: (-each.weights, each.name))
        known, began = _read(ctx.scratch / "levels.json"), time.monotonic()
        measured: dict[str, list[Level]] = {}
        for number, operator in enumerate(order):
            if operator.name not in known:
                if time.monotonic() - began > _BUDGET_S:
                    ctx.progress.note(f"sensitivity: stopped after {_BUDGET_S:.0f} s, {number} of {len(order)} measured")
                    break
                lower = found.precisions_of(operator.name)[1:]
                known[operator.name] = {each: measure({operator.name: each}) for each in lower}
                _keep(ctx.scratch / "levels.json", known)
            damages = {"fp32": 0.0, **known[operator.name]}
            measured[operator.name] = [
                Level(each, found.bytes_of(operator.name, each), damages[each]) for each in found.precisions_of(operator.name)
            ]
            ctx.progress.update(number + 1, len(order), "operators", operator.name)
        facts = LevelsFacts(
            measure="1 - cosine" if signature.task == "sentence-embedding" else "KL divergence (nats)",
            rows=rows,
            measured=len(measured),
            unmeasured=tuple(sorted({each.name for each in order} - set(measured))),
        )
        types = {each.name: each.type for each in order}
        listed = [
            {"name": name, "type": types[name], "levels": [asdict(each) for each in levels]} for name, levels in measured.items()
        ]
        data = {**asdict(facts), "version": 1, "operators": listed}
        (ctx.out / MEASUREMENT_FILE).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        return facts


def measuring(
    inputs: Mapping[str, Artifact], samples: int, threads: int, made: Callable[[Mapping[str, Precision]], onnx.ModelProto]
) -> tuple[int, Callable[[Mapping[str, Precision]], float]]:
    """Return (rows, what measures a choice): its mean damage against FP32 on `inputs["data"]`; infinite where it is no number."""
    source = inputs["model"].path
    signature = Signature.read(source)
    feeds = calibration_feeds(source, signature, inputs["data"], samples)
    reference = outputs_of(open_session(source / "model.onnx", threads), feeds)

    def measure(choice: Mapping[str, Precision]) -> float:
        session = open_session(made(choice).SerializeToString(), threads)
        return max(0.0, float(damage(signature.task, reference, outputs_of(session, feeds)).mean()))

    return len(reference), measure


def loss_of(task: Task, found: float) -> float:
    """Return a damage as a share: of embeddings as it is (1 - cosine), of labels 1 - exp(-KL), the likelihood that is lost.

    What is no number loses more than any budget.
    """
    if not math.isfinite(found):
        return 2.0
    return found if task == "sentence-embedding" else 1.0 - math.exp(-found)


def read_levels(measurement: Artifact) -> dict[str, list[Level]]:
    """Return operator → its levels of a measurement."""
    data = json.loads((measurement.path / MEASUREMENT_FILE).read_bytes())
    return {each["name"]: [Level(**level) for level in each["levels"]] for each in data["operators"]}


def _keep(path: Path, known: Mapping[str, Any]) -> None:
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(known), encoding="utf-8")
    aside.replace(path)


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        data = json.loads(path.read_bytes())
        return {str(name): {str(each): float(value) for each, value in found.items()} for name, found in data.items()}
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        return {}
