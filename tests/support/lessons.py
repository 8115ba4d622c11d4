"""A pass run by itself, and what most tests of distillation begin with: a transformer of two layers, a short stage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.artifacts import Recorder, artifact, context

from stillhouse.passes.base import Artifact, Pass

__all__ = ["LABELS", "OUTPUTS", "SHAPE", "STAGE", "go"]

LABELS = ("io", "text", "time")
SHAPE: dict[str, Any] = {
    "hiddenLayers": 2,
    "hiddenSize": 16,
    "attentionHeads": 2,
    "intermediateSize": 32,
    "maxLength": 32,
    "seed": 3,
}
OUTPUTS: dict[str, Any] = {"outputs": ["embedding"], "maxLength": 32, "layers": [], "shardRows": 16}
STAGE: dict[str, Any] = {
    "stage": "soft",
    "losses": [{"kind": "embedding", "weight": 1}, {"kind": "similarity", "weight": 0.5}],
    "epochs": 3,
    "batchSize": 8,
    "learningRate": 0.01,
    "warmup": 0.1,
    "weightDecay": 0.01,
    "maxLength": 32,
    "checkpointSteps": 4,
    "seed": 5,
}


def go(
    one: Pass[Any, Any], config: Mapping[str, Any], inputs: Mapping[str, Artifact], folder: Path, progress: Recorder | None = None
) -> tuple[Artifact, dict[str, Any]]:
    """Run a pass; its output as an artifact, its facts as JSON data."""
    ctx = context(folder, progress)
    facts = one.run(one.config_type.model_validate(config), inputs, ctx)
    data = json.loads(json.dumps(dataclasses.asdict(facts), allow_nan=False))
    return artifact(ctx.out, one.kind, data), data
