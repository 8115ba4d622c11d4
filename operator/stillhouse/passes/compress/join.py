"""`join-steps`: a candidate with the steps of its pipeline beside it, in one artifact, after every joint was checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.inference.signature import Signature
from stillhouse.inference.steps import Step, check_links, ends_of, step_file, write_steps
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.sources.step import STEP_MODEL

__all__ = ["JoinConfig", "JoinFacts", "JoinSteps"]


class JoinConfig(PassConfig):
    """How many steps there are; their artifacts come as `step-0`, `step-1` and so on."""

    steps: int


@dataclass(frozen=True, slots=True)
class JoinFacts:
    """`model`: digest of the candidate without its steps, `facts` what its own pass found; `steps`: digests by name."""

    model: str
    steps: dict[str, str]
    facts: dict[str, Any]


class JoinSteps(Pass[JoinConfig, JoinFacts]):
    """A model and its steps → `onnx-model` with `pipeline.json` and one graph for each step."""

    name = "join-steps"
    version = 1
    kind = "onnx-model"
    config_type = JoinConfig

    def run(self, config: JoinConfig, inputs: Mapping[str, Artifact], ctx: Context) -> JoinFacts:
        """Check the joints and put the files together.

        Raises:
            SpecError: two ends do not fit.
        """
        model = inputs["model"]
        parts = [inputs[f"step-{position}"] for position in range(config.steps)]
        steps = [_step(part) for part in parts]
        check_links(ends_of(Signature.read(model.path)), steps)
        for source in sorted(model.path.iterdir()):
            if source.is_file() and source.name != "manifest.json":
                _put(source, ctx.out / source.name)
        for step, part in zip(steps, parts, strict=True):
            _put(part.path / STEP_MODEL, ctx.out / step_file(step.name))
        write_steps(steps, ctx.out)
        digests = {step.name: part.digest for step, part in zip(steps, parts, strict=True)}
        return JoinFacts(model.digest, digests, dict(model.facts))

    def foresee(self, config: JoinConfig, inputs: Mapping[str, Artifact]) -> None:
        """Check the joints before the model is made: against the source, whose student may have another width.

        Raises:
            SpecError: two ends do not fit.
        """
        parts = sorted((role for role in inputs if role.startswith("step-")), key=lambda role: int(role.removeprefix("step-")))
        steps = [_step(inputs[role]) for role in parts]
        source = inputs.get("source") or inputs.get("teacher")
        if source is None:  # fine-tuned first: its outputs are known when that is done
            return
        check_links(ends_of(Signature.read(source.path), width_known="source" in inputs), steps)


def _step(artifact: Artifact) -> Step:
    return Step.from_json(artifact.facts["step"])


def _put(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
