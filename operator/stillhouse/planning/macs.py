"""What a forward or a step of training multiplies: of shapes that a plan knows before anything runs. For estimates only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stillhouse.planning.manifest import LOSSES
from stillhouse.planning.plan import Environment, Plan, Step
from stillhouse.planning.students import convolved_macs, is_small, small_macs

__all__ = ["MEAN_TOKENS", "asked_macs", "macs_per_token", "student_macs", "training_macs", "usual_macs", "usual_shape"]

MEAN_TOKENS = 40
"""Tokens of a typical text, when the data does not say."""


def macs_per_token(hidden: int, layers: int, intermediate: int) -> int:
    """Return the multiply-accumulates of a transformer's matrices for each token."""
    return layers * (4 * hidden * hidden + 2 * hidden * intermediate)


def student_macs(shape: Mapping[str, Any], info: Mapping[str, Any]) -> int:
    """Return the student's multiply-accumulates per token; what its shape leaves out is the teacher's."""
    if is_small(shape):
        image = info.get("image")  # what is counted of tokens is an image here, whatever it is made of
        return small_macs(shape, image, training=True) // (1 if image is None else MEAN_TOKENS)
    width = int(shape.get("hiddenSize") or info.get("hiddenSize") or 768)
    if shape.get("kernelSizes"):  # behind its token vectors, which are as wide as the teacher's
        return int(info.get("hiddenSize") or 768) * width + convolved_macs(shape, width, int(shape.get("hiddenLayers") or 1))
    depth = int(shape.get("hiddenLayers") or info.get("layers") or 12)
    return macs_per_token(width, depth, int(shape.get("intermediateSize") or 4 * width))


def usual_shape(step: Step, plan: Plan) -> dict[str, Any]:
    """Return the shape of whom a step trains; of what is searched the middle of what it may be."""
    while "student" in step.parents:
        step = plan.step(step.parents["student"])
    found = dict((plan.find("train/student") or step).config if step.pass_name == "search-student" else step.config)
    search = plan.find("train/search") if step.id in {"train/student", "train/search"} else None
    for name, values in (search.config["space"] if search else {}).items():
        found[name] = values[len(values) // 2]
    return found


def usual_macs(step: Step, plan: Plan, info: Mapping[str, Any]) -> int:
    """Return the multiply-accumulates per token of whom a step trains."""
    return student_macs(usual_shape(step, plan), info)


def training_macs(step: Step, plan: Plan, losses: Iterable[Mapping[str, Any]], info: Mapping[str, Any], teacher: int) -> int:
    """Return the multiply-accumulates per token of a step: the student's, and the teacher's where it reads along."""
    along = any(LOSSES[loss["kind"]].reads == "tokens" for loss in losses)
    return 3 * student_macs(usual_shape(step, plan), info) + (teacher if along else 0)


def asked_macs(step: Step, plan: Plan, env: Environment, info: Mapping[str, Any], source: int) -> int:
    """Return the multiply-accumulates per token of the model that a step asks: the source (so many), another, an assistant."""
    asked = plan.find(step.parents.get("teacher", ""))
    if asked is not None and "student" in asked.parents:
        return student_macs(usual_shape(asked, plan), info)
    if asked is not None and asked.id != "resolve/source" and asked.uri in env.pins:
        return student_macs({}, env.pins[asked.uri].info)
    return source
