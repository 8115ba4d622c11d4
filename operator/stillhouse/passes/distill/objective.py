"""The weighted sum that training lowers, and how its weights and temperatures change over a stage.

A term's weight or temperature goes from its value to another one, over the stage's steps, along a line or half a cosine.

Layer by layer, from low to high: the stage is cut into as many turns of equal length as there are student layers that terms
speak of, and one more for the terms that speak of none (the outputs, the labels). `alone`: each turn has its own terms only;
`stacked`: also those of the turns before. Aguilar et al. 2020, arXiv:1910.03723, call them progressive and stacked internal
distillation. A term that is not its turn's is worked out, for the record, and moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.distill.losses.base import Course
from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["Objective", "Part", "along"]


@dataclass(frozen=True, slots=True)
class Part:
    """A term, what it is called, and its weight, which `course` leads elsewhere."""

    name: str
    weight: float
    term: LossTerm
    course: Course | None = None


class Objective:
    """The sum. `begin` is told the step before the sum is asked for: weights and temperatures follow from it alone."""

    def __init__(self, parts: Sequence[Part], progressive: Literal["alone", "stacked"] | None = None) -> None:
        self.parts = tuple(parts)
        self._progressive = progressive
        depths = sorted({part.term.depth for part in parts if part.term.depth is not None})
        outputs = any(part.term.depth is None for part in parts)
        self._turns = len(depths) + outputs
        self._turn_of = [len(depths) if part.term.depth is None else depths.index(part.term.depth) for part in parts]
        self._temperatures = [part.term.temperature for part in parts]
        self._weights = [part.weight for part in parts]
        self._active = [True] * len(parts)
        self._where, self._first = "", False

    @property
    def names(self) -> list[str]:
        """Give the terms' names in order."""
        return [part.name for part in self.parts]

    @property
    def terms(self) -> list[LossTerm]:
        """Give the terms themselves: some have parameters that are trained along."""
        return [part.term for part in self.parts]

    @property
    def weights(self) -> list[float]:
        """Give the weights of the step that has begun; 0 for a term that is not its turn's."""
        return [weight if active else 0.0 for weight, active in zip(self._weights, self._active, strict=True)]

    def check(self, steps: int) -> None:
        """Look whether every layer gets a turn.

        Raises:
            SpecError: there are more turns than steps.
        """
        if self._progressive and steps < self._turns:
            raise SpecError(
                "the stage is over before every layer had its turn",
                field="spec.distill.stages[].epochs",
                found=f"{steps} steps",
                allowed=f"at least {self._turns}, one for each layer and one for the outputs",
                fix="raise epochs, lower batchSize, or name fewer layers",
            )

    def begin(self, step: int, steps: int) -> None:
        """Set what step `step` (from 0) of `steps` is done with."""
        self._where, self._first = f"step {step + 1:,} of {steps:,}", step == 0
        turn = min(self._turns - 1, step * self._turns // steps)
        for position, part in enumerate(self.parts):
            mine = self._turn_of[position]
            self._active[position] = self._progressive is None or mine == turn or (self._progressive == "stacked" and mine < turn)
            self._weights[position] = along(part.weight, part.course, step, steps)
            part.term.temperature = along(self._temperatures[position], part.term.config.temperature_course, step, steps)

    def __call__(self, output: NetworkOutput, targets: Targets) -> list[Tensor]:
        """Return the sum and then each term without its weight, float32 scalars.

        Raises:
            DataError: the sum is no finite number, or no longer one.
        """
        values = [term(output, targets) for term in self.terms]
        total = torch.zeros((), device=output.output.device)
        for active, weight, value in zip(self._active, self._weights, values, strict=True):
            if active:
                total = total + weight * value

        def found() -> str:
            return ", ".join(f"{n} {float(v.detach()):g}" for n, v in zip(self.names, values, strict=True))

        if self._first and not torch.isfinite(total):  # nothing was learned yet: no learning rate is to blame
            raise DataError(
                "the objective is no finite number before anything is learned",
                field="spec.distill.stages[].losses",
                found=found(),
                allowed="a student and a teacher that say finite numbers",
                fix="look at the weights that the student begins with (its factory or uri), and at the losses' temperatures",
            )
        self.demand_finite(total, found)
        return [total, *values]

    def demand_finite(self, value: Tensor, found: Callable[[], str]) -> None:
        """Look at a scalar of the step that has begun; `found` says what it came of.

        Raises:
            DataError: it is not a finite number.
        """
        if not torch.isfinite(value):
            raise DataError(
                f"training went astray in {self._where}: the objective, its gradient or an output is no longer a finite number",
                field="spec.distill.stages[].learningRate",
                found=found(),
                allowed="finite numbers",
                fix="lower learningRate, or raise warmup",
            )


def along(start: float, course: Course | None, step: int, steps: int) -> float:
    """Return where a value is in step `step` (from 0) of `steps`: `start` in the first, the course's end in the last."""
    if course is None or steps < 2:
        return start
    share = step / (steps - 1)
    if course.shape == "cosine":
        share = 0.5 * (1.0 - math.cos(math.pi * share))
    return start + (course.to - start) * share
