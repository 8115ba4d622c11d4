"""What a stage takes out, and when: the course of Zhu & Gupta 2017, arXiv:1710.01878, equation 1, from a share of 0.

With t from 0 to 1 between the end of the warm-up and the beginning of the recovery, share(t) = ratio · (1 − (1 − t)³).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from stillhouse.errors import SpecError
from stillhouse.passes.distill.config import CamelConfig

__all__ = ["FIELD", "UNITS", "Course", "Measure", "PruneConfig", "course_of", "emptied", "taken"]

FIELD: Final = "spec.distill.stages[].prune"
UNITS: Final = ("heads", "neurons", "channels")
Measure = Literal["magnitude", "taylor", "movement"]
_RANKINGS: Final = 100
"""So many times at most a stage ranks anew: sorting millions of weights in every step would cost more than the step."""


class PruneConfig(CamelConfig):
    """Shares of `weights`, or of `heads`, `neurons` and `channels`; `recovery`: of the steps, the last, that take out nothing."""

    weights: float | None = Field(default=None, gt=0, lt=1)
    heads: float | None = Field(default=None, gt=0, lt=1)
    neurons: float | None = Field(default=None, gt=0, lt=1)
    channels: float | None = Field(default=None, gt=0, lt=1)
    by: Measure = "magnitude"
    recovery: float = Field(default=0.4, ge=0, lt=1)

    @property
    def shares(self) -> dict[str, float]:
        """Return kind → share of what is asked for."""
        return {kind: value for kind in ("weights", *UNITS) if (value := getattr(self, kind)) is not None}


@dataclass(frozen=True, slots=True)
class Course:
    """From which step (from 0) something is taken out, and before which all of it is."""

    begin: int
    end: int

    def after(self, step: int) -> float | None:
        """Return how much of the ratio is out once `step` is done, 0 to 1; None where nothing is ranked anew."""
        last = self.end - 1
        every = max(1, (self.end - self.begin) // _RANKINGS)
        if not self.begin <= step <= last or (last - step) % every:
            return None
        return 1.0 - (1.0 - (step + 1 - self.begin) / (self.end - self.begin)) ** 3

    def settled(self, per_epoch: int) -> int:
        """Return how many epochs are over before all is out: what validation says of those is not of the result."""
        return (self.end - 1) // per_epoch


def taken(share: float, total: int) -> int:
    """Return how many of `total` units a share is."""
    return round(share * total)


def emptied(kind: str, share: float, total: int, layers: int, told: str = "") -> SpecError | None:
    """Return what is wrong with a share of `total` units that leaves fewer than there are layers: one in each has to stay.

    `told`: more of what was found.
    """
    left = total - taken(share, total)
    if left >= layers:
        return None
    most = (total - layers) / total
    percent = f"{int(most * 1000) / 10:g}%"
    return SpecError(
        f"so large a share of the {kind} would leave a layer with none",
        field=f"{FIELD}.{kind}",
        found=f"{share * 100:g}% of {total:,} {kind} in {layers} layers leaves {left}{told}",
        allowed=f"at most {percent}: every layer keeps one" if most > 0 else f"no {kind}: every layer has but one",
        fix=f"{kind}: {percent}" if most > 0 else f"leave {kind} out",
    )


def course_of(config: PruneConfig, steps: int, warmup: float, epochs: str = "epochs") -> Course:
    """Return the course over `steps`; `warmup` is the share of them in which the learning rate climbs.

    `epochs`: what one raises to have more steps.

    Raises:
        SpecError: the recovery leaves no step.
    """
    end = steps - math.ceil(config.recovery * steps)
    if end < 1:
        raise SpecError(
            "the recovery leaves no step in which something is pruned",
            field=f"{FIELD}.recovery",
            found=f"{config.recovery:.0%} of {steps} steps",
            allowed="one step at least before the recovery",
            fix=f"raise {epochs}, or lower recovery",
        )
    return Course(min(math.ceil(warmup * steps), end - 1), end)
