"""What the gateway must know of a pipeline whose steps are apart. Pure."""

from __future__ import annotations

from typing import Any

from stillhouse.api.model import DistilledModel
from stillhouse.api.pipeline import GIVEN, SAID

__all__ = ["pipeline_config"]


def pipeline_config(model: DistilledModel) -> dict[str, Any] | None:
    """Return the pipeline as `edge.steps.PipelineSettings.from_json` reads it; None where the gateway joins nothing.

    Where each step's model is to be found is said elsewhere: they are DistilledModels of the same namespace.
    """
    pipeline, task = model.spec.pipeline, model.spec.source.task
    if pipeline is None or pipeline.placement != "apart":
        return None
    return {
        "model": model.metadata.name,
        "takes": GIVEN[task],
        "says": [*SAID[task], "PROVENANCE"],
        "steps": [
            {"name": step.name, "model": step.model, "inputs": dict(step.inputs), "outputs": dict(step.outputs)}
            for step in pipeline.steps
        ],
    }
