"""What `bench-compress` makes of its measurements: losses, ratios, the choice, and who dominates whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.harness.rounds import Spread
from stillhouse.passes.evaluate.candidate import Measured
from stillhouse.passes.evaluate.choosing import choose
from stillhouse.passes.evaluate.intervals import Interval, bootstrap

__all__ = ["Candidate", "Scores", "chosen_of", "dominators", "front", "points_lost", "undominated"]

_BYTES = 1e6  # sizes here are ratios, the rule counts whole bytes
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table: `size` and `speed` are ratios to FP32, `lost` points of MRR@10, each with its range."""

    name: str
    ours: bool
    size: float
    lost: Spread
    speed: Spread

    def at_least(self, other: Candidate) -> bool:
        """Return whether it is as small, as good and as fast as another, and better in one of these (medians)."""
        pairs = ((other.size, self.size), (other.lost.median, self.lost.median), (self.speed.median, other.speed.median))
        return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


def points_lost(reference: Scores, found: Scores) -> Spread:
    """Return how many points of MRR@10 are lost, with the 95 % interval of a paired bootstrap over the pairs."""
    lost = bootstrap(lambda rows: 100 * float(reference[rows].mean() - found[rows].mean()), len(found), within=(-100.0, 100.0))
    return Spread.around(lost)


def dominators(chosen: Candidate, others: Sequence[Candidate]) -> list[str]:
    """Name those that are as small, as good and as fast as `chosen`, and better in one of these."""
    return [other.name for other in others if other.at_least(chosen)]


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Give those that nobody dominates, the smallest first."""
    kept = [each for each in candidates if not dominators(each, [other for other in candidates if other is not each])]
    return sorted(kept, key=lambda each: each.size)


def chosen_of(candidates: Sequence[Candidate], cosines: Mapping[str, float], least: float) -> Candidate:
    """Choose as `goal: balanced` does, by its own code, of those whose cosine reaches `least`: there is always FP32."""
    passed = {each.name: each for each in candidates if cosines[each.name] >= least}
    measured = [
        Measured(each.name, "", round(each.size * _BYTES), {"throughput": Interval(*_ends(each.speed), 0)})
        for each in passed.values()
    ]
    return passed[choose("balanced", measured).precision]


def _ends(spread: Spread) -> tuple[float, float, float]:
    return spread.median, spread.low, spread.high


def undominated(chosen: Candidate, rivals: Sequence[Candidate], versus: Mapping[str, tuple[Spread, Spread]]) -> Spread:
    """Return 1 where no rival dominates, else 0: by the medians, and (low) where the ranges must show it.

    Args:
        chosen: ours.
        rivals: theirs.
        versus: rival → (points that ours lost more than it, how many times as fast ours is), with their ranges.
    """
    by_medians = float(not dominators(chosen, rivals))
    shown = all(chosen.size < rival.size or versus[rival.name][0].high < 0 or versus[rival.name][1].low > 1 for rival in rivals)
    return Spread(by_medians, min(by_medians, float(shown)), by_medians)
