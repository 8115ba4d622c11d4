"""From what is wanted (an agreement, or a budget for escalation) to thresholds, with a guarantee; and its check on test.

Along a path from the safest thresholds to the most daring (for a budget the other way), each is held against a one-sided
exact bound at 97.5 %, and the search ends at the first that misses it. Looking at many thresholds costs nothing then: for two
models the risk only rises along the path (risk-controlling prediction sets, Bates et al. 2021), for a chain the path was
fixed on other rows (fixed-sequence testing, as in Angelopoulos et al. 2021). docs/design/20261126-cascade.md has the argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stillhouse.errors import DataError
from stillhouse.passes.evaluate.curve import Path, Point, Rows, measure, tally, trace
from stillhouse.passes.evaluate.intervals import clopper_pearson, fewest_for_share, most_below
from stillhouse.passes.evaluate.verdict import Check, Outcome, compare

__all__ = ["Aim", "Solved", "Verdict", "Verified", "solve", "verify"]

Kind = Literal["targetAgreement", "escalationBudget"]
Verdict = Literal["met", "not met", "not resolved"]
_VERDICTS: dict[Outcome, Verdict] = {"passed": "met", "failed": "not met", "inconclusive": "not resolved"}


@dataclass(frozen=True, slots=True)
class Aim:
    """What is wanted: at least the share `value` of answers agree with the last model's, or at most `value` reach it.

    Raises:
        DataError: the value is no share.
    """

    kind: Kind
    value: float

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise DataError("a share lies within 0 and 1", field=self.kind, found=str(self.value), allowed="0 to 1")


@dataclass(frozen=True, slots=True)
class Solved:
    """Thresholds for an aim.

    `reachable` is whether some stage may answer and the bound still holds. If not, `point` is the nearest safe thing: for an
    agreement, everything escalates; for a budget, as little as can be. `best` is the best bound that thresholds at which a
    stage answers have on these rows (a lower one of agreement, an upper one of escalation), `rows_needed` how many rows
    without an exception could show the aim at all (None: no number of rows).
    """

    aim: Aim
    reachable: bool
    point: Point
    best: float
    rows_needed: int | None

    def describe(self) -> str:
        """Say in a line what was solved, or why it could not be."""
        target, wanted = self.aim.kind == "targetAgreement", f"{self.aim.value:.2%}"
        if self.reachable:
            figure = self.point.agreement.low if target else self.point.escalation.high
            shown = f"{figure:.2%}" if math.isfinite(figure) else "unknown"
            return (
                f"{self.aim.kind} {wanted}: {'at least' if target else 'at most'} {shown} on {self.point.agreement.n} rows, "
                f"{self.point.escalation.estimate:.1%} escalate, {self.point.agreement.estimate:.2%} agree"
            )
        n = self.point.agreement.n
        few = self.rows_needed is not None and n < self.rows_needed
        why = f"it takes {self.rows_needed} rows at least, and there are {n}" if few else "the stages are not good enough"
        if self.rows_needed is None:
            why = "no number of rows shows it"
        rest = "so everything escalates" if target else "so as few escalate as can be"
        bound = "at least" if target else "at most"
        return f"{self.aim.kind} {wanted} cannot be met: {why}; the best bound is {bound} {self.best:.2%}, {rest}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "aim": {self.aim.kind: self.aim.value},
            "reachable": self.reachable,
            "point": self.point.to_json(),
            "best": self.best,
            "rowsNeeded": self.rows_needed,
        }


def solve(rows: Rows, aim: Aim, path: Path | None = None) -> Solved:
    """Solve the thresholds on the threshold split.

    For an agreement: of the thresholds up to which every lower bound on the way met the target, the last ones, which escalate
    least; of a chain the cheapest, for the bounds of all of them hold together. For a budget: of the thresholds up to which,
    from the most daring on, every upper bound kept it, the last ones, which agree most; of a chain those with the most
    agreement here.

    Args:
        rows: the threshold split.
        aim: what is wanted.
        path: of a chain (`chain.pareto_path`, from the calibration split); two models need none.
    """
    steps = trace(rows) if path is None else path
    counts = tally(rows, steps)
    n = rows.n
    answering = counts.escalated < n
    if aim.kind == "targetAgreement":
        allowed = most_below(1 - aim.value, n)
        sure = counts.disagreeing <= (-1 if allowed is None else allowed)
        sure[0] = True  # everything escalates: no sample is needed to know
        passed = last = len(steps) - 1 if sure.all() else int(np.argmin(sure)) - 1
        if rows.stages > 1:
            last = int(np.argmin(counts.cost[: last + 1]))
        some = counts.disagreeing[answering]
        best = clopper_pearson(n - int(some.min()), n).low if len(some) else 0.0
        return Solved(aim, bool(answering[: passed + 1].any()), measure(rows, steps[last]), best, _fewest(aim.value))
    allowed = most_below(aim.value, n)
    kept = counts.escalated <= (-1 if allowed is None else allowed)
    first = 0 if kept.all() else len(steps) - int(np.argmin(kept[::-1]))
    reachable = first < len(steps)
    place = first if reachable else int(np.argmin(counts.escalated))
    if rows.stages > 1 and reachable:
        place = first + int(np.argmin(counts.disagreeing[first:]))
    best = clopper_pearson(int(counts.escalated.min()), n).high
    return Solved(aim, reachable, measure(rows, steps[place]), best, _fewest(1 - aim.value))


def _fewest(share: float) -> int | None:
    """Return how many rows without an exception show a share; every row shows a share of 0."""
    return fewest_for_share(share) if share > 0 else 1


@dataclass(frozen=True, slots=True)
class Verified:
    """The chosen thresholds on test rows: what they are worth there, and whether the aim is met."""

    point: Point
    check: Check
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"point": self.point.to_json(), "check": self.check.to_json(), "verdict": self.verdict}


def verify(rows: Rows, solved: Solved) -> Verified:
    """Measure solved thresholds on the test split, which nothing was chosen on.

    Met: the interval's unfavourable end meets the aim. Not met: even the favourable one misses it. Else not resolved.
    """
    point = measure(rows, solved.point.thresholds)
    if solved.aim.kind == "targetAgreement":
        check = compare("agreement", "min", solved.aim.value, point.agreement)
    else:
        check = compare("escalation", "max", solved.aim.value, point.escalation)
    return Verified(point, check, _VERDICTS[check.outcome])
