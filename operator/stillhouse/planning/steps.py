"""A gateway that runs steps and no model: what is built of such a file is the steps, with the files that they read. Pure."""

from __future__ import annotations

from stillhouse.api.model import Spec
from stillhouse.api.preprocess import Preprocess, chain_file
from stillhouse.planning.plan import Environment, StepDraft

__all__ = ["PRECISION", "STEPS", "pack", "reads_source", "steps_of"]

STEPS = "resolve/steps"
PRECISION = "steps"
"""Of a revision that is steps before a model and no model."""
_READING = ("tokenise",)
"""Kinds whose steps read files of the source."""


def steps_of(spec: Spec) -> Preprocess | None:
    """Return the steps where they are all that is built of a spec, None where a model is."""
    return spec.edge.preprocess if spec.edge is not None else None


def reads_source(steps: Preprocess) -> bool:
    """Return whether a step reads a file of `spec.source`; without one the source is only named."""
    return any(each.kind in _READING for each in steps.steps)


def pack(steps: Preprocess, uri: str, env: Environment) -> StepDraft:
    """Draft the packing of steps with what they read of the source at `uri`. Whom the gateway asks is none of it."""
    reads = reads_source(steps)
    config = {"chain": chain_file(steps.steps), "digest": env.pins[uri].digest if reads else None}
    return StepDraft(STEPS, "resolve", "pack-steps", config, uri=uri if reads else "")
