"""Candidates with the steps of a pipeline that is together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stillhouse.api.pipeline import Pipeline
from stillhouse.planning.plan import Environment, StepDraft

__all__ = ["join"]


def join(pipeline: Pipeline, candidates: Sequence[str], source: str, env: Environment, *, distilled: bool) -> Iterator[StepDraft]:
    """Draft the imports of a pipeline's steps, then each candidate with them, in the candidates' order.

    How a step is joined is in its import's key: so it can be held against the others before anything is trained. For that alone
    the model's `source` is a parent, under another role where it is `distilled`: a student's width may differ.
    """
    parents = {"teacher" if distilled else "source": source}
    for position, step in enumerate(pipeline.steps):
        assert step.onnx is not None  # the API's rule of placement together
        config = {
            "digest": env.pins[step.onnx.uri].digest,
            "name": step.name,
            "position": position,
            "inputs": dict(step.inputs),
            "outputs": dict(step.outputs),
        }
        parents[f"step-{position}"] = f"resolve/step-{position}"
        yield StepDraft(f"resolve/step-{position}", "resolve", "import-step", config, uri=step.onnx.uri)
    for candidate in candidates:
        config = {"steps": len(pipeline.steps)}
        yield StepDraft(f"{candidate}-pipeline", "compress", "join-steps", config, {"model": candidate, **parents})
