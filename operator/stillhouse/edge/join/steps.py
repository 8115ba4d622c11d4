"""How the steps of a pipeline hang together: what it is built from, and which steps run when, for which outputs. Plain data.

Names of tensors are references as in the resource: `TENSOR` is the base model's, `STEP.TENSOR` a step's, `request.TENSOR` the
client's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["BASE", "Order", "PipelineSettings", "StepSettings", "order"]

BASE = "base"
"""Name of the first step: the model whose pipeline it is."""


@dataclass(frozen=True, slots=True)
class StepSettings:
    """A step: `model` is its name on the wire, `inputs` its input → reference, `outputs` its output → name in the answer."""

    name: str
    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """A pipeline.

    `model` is its name to clients and that of its first model on the wire; `takes` is what that model is given and `says` what it
    answers, which all are in the answer. `margin_s` seconds of a client's time are kept for the way back.
    """

    model: str
    takes: str
    says: tuple[str, ...]
    steps: tuple[StepSettings, ...]
    margin_s: float = 0.005

    @property
    def chain(self) -> tuple[StepSettings, ...]:
        """Return all steps with the model itself as the first."""
        base = StepSettings(BASE, self.model, {self.takes: f"request.{self.takes}"}, {name: name for name in self.says})
        return (base, *self.steps)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of all that can be in the answer."""
        return tuple(name for step in self.chain for name in step.outputs.values())


@dataclass(frozen=True, slots=True)
class Order:
    """What runs for some outputs: `waves` of steps, those of one at the same time; `asked`: step → outputs to ask it for."""

    waves: tuple[tuple[StepSettings, ...], ...]
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def reference(step: str, tensor: str) -> str:
    """Return what a step's output is called between steps."""
    return tensor if step == BASE else f"{step}.{tensor}"


def order(settings: PipelineSettings, wanted: frozenset[str]) -> Order:
    """Return what must run for these names of the answer (all where none is named), each step as early as it can."""
    chain = settings.chain
    needed: set[str] = set()
    asked: dict[str, tuple[str, ...]] = {}
    for step in reversed(chain):
        given = {*step.outputs, *(_tensor(each, step.name) for each in needed)} - {""}
        mine = sorted(
            name for name in given if reference(step.name, name) in needed or not wanted or step.outputs.get(name) in wanted
        )
        if mine:
            asked[step.name] = tuple(mine)
            needed.update(step.inputs.values())
    level = {"request": 0}
    waves: dict[int, list[StepSettings]] = {}
    for step in chain:
        if step.name in asked:
            level[step.name] = 1 + max(level[_owner(each)] for each in step.inputs.values())
            waves.setdefault(level[step.name], []).append(step)
    return Order(tuple(tuple(waves[number]) for number in sorted(waves)), asked)


def _owner(source: str) -> str:
    return source.partition(".")[0] if "." in source else BASE


def _tensor(source: str, step: str) -> str:
    """Return the tensor of a reference where it is one of that step, else ""."""
    return source.partition(".")[2] or source if _owner(source) == step else ""
