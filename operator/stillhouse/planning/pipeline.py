"""What the gateway must know of a pipeline whose steps are apart. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.api.model import Spec
from stillhouse.api.pipeline import GIVEN, SAID

__all__ = ["pipeline_config", "step_models"]


def step_models(spec: Spec) -> tuple[str, ...]:
    """Return the DistilledModels that the gateway joins, each once; none where it joins nothing."""
    if spec.pipeline is None or spec.pipeline.placement != "apart":
        return ()
    return tuple(dict.fromkeys(step.model for step in spec.pipeline.steps if step.model))


def pipeline_config(
    spec: Spec, at: Mapping[str, Mapping[str, Any]], shown: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any] | None:
    """Return the part `pipeline` of the gateway's configuration; None where it joins nothing.

    `at`: where each of `step_models` is, as the configuration says it of a larger model; `shown`: by a step's name, what is added
    to that for it.
    """
    pipeline, task = spec.pipeline, spec.source.task
    if pipeline is None or pipeline.placement != "apart":
        return None
    return {
        "takes": GIVEN[task],
        "says": [*SAID[task], "PROVENANCE"],
        "steps": [
            {
                "name": step.name,
                "inputs": dict(step.inputs),
                "outputs": dict(step.outputs),
                "at": {**at[step.model or ""], **(shown or {}).get(step.name, {})},
            }
            for step in pipeline.steps
        ],
    }
