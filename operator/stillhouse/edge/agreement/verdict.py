"""What the watch says: three questions, each with an answer that does not flap.

A question is *over* where the unfavourable reading of its figure is beyond the bound even with luck taken into account, *calm*
where the figure itself is back within, and in between it stays what it was. It takes some looks in a row either way. Too little
traffic changes nothing: an alarm of the evening still stands in the night.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stillhouse.edge.agreement.settings import Bounds, Expected
from stillhouse.edge.agreement.shares import Share, share
from stillhouse.edge.agreement.window import Totals
from stillhouse.inference.drift import Reference, by_chance, psi

__all__ = ["Figures", "Judge", "Reason", "State", "Verdict", "figures", "verdict"]


class State(StrEnum):
    """What a question, or all of them together, came to."""

    OK = "ok"
    OUTSIDE = "outside"
    TOO_LITTLE = "tooLittle"


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of a window.

    `edge`: the share of edge-answered rows that the larger model answers alike; `agreement`: the same of all rows, where what was
    escalated agrees by definition. `escalation`: rows that were escalated. `psi`: of the confidences, None without a reference.
    Intervals have 95 %.
    """

    edge: Share
    agreement: Share
    escalation: Share
    psi: float | None
    requests: int
    rows: int
    compared: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "requests": self.requests,
            "rows": self.rows,
            "compared": self.compared,
            "edge": self.edge.to_json(),
            "agreement": self.agreement.to_json(),
            "escalation": self.escalation.to_json(),
            "psi": None if self.psi is None else round(self.psi, 6),
        }


def figures(totals: Totals, reference: Reference | None, tail: float = 0.025) -> Figures:
    """Work out the figures of a window; each end of an interval is wrong with at most `tail`.

    Which rows the edge answered is counted, not sampled: only their agreement has an interval.
    """
    edge = share(totals.agreement, totals.effective, tail)
    part = totals.answered / totals.rows if totals.rows else math.nan
    if part == 0:
        every = Share(1.0, 1.0, 1.0, totals.seen)  # all were escalated, in this window for certain
    else:
        estimate, low, high = (1 - part * (1 - value) for value in (edge.estimate, edge.low, edge.high))
        every = Share(estimate, low, high, edge.n)
    drift = psi(reference.cells, totals.cells) if reference is not None and totals.rows else None
    escalation = share(totals.escalation, totals.seen, tail)
    return Figures(edge, every, escalation, drift, totals.requests, totals.rows, totals.compared)


@dataclass(frozen=True, slots=True)
class Reason:
    """A condition that holds. `type` is its name: AgreementLow, ConfidenceDrift or EscalationHigh."""

    type: str
    message: str
    value: float
    bound: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"type": self.type, "message": self.message, "value": round(self.value, 6), "bound": round(self.bound, 6)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`questions`: what each of those that are asked came to. `reasons`: why it is outside."""

    state: State
    questions: dict[str, State]
    reasons: tuple[Reason, ...]
    figures: Figures

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "state": self.state.value,
            "questions": {name: state.value for name, state in self.questions.items()},
            "reasons": [reason.to_json() for reason in self.reasons],
            "figures": self.figures.to_json(),
        }


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at one question; `over`, `calm`: None where there is too little to say."""

    type: str
    over: bool | None
    calm: bool | None
    value: float
    bound: float
    message: str


class _Latch:
    def __init__(self, raise_after: int, clear_after: int) -> None:
        self.on = False
        self._raise, self._clear, self._row = raise_after, clear_after, 0

    def look(self, over: bool, calm: bool) -> None:
        self._row = self._row + 1 if (calm if self.on else over) else 0
        if self._row >= (self._clear if self.on else self._raise):
            self.on, self._row = not self.on, 0


class Judge:
    """Looks at windows, one after the other, and remembers what it said."""

    def __init__(self, bounds: Bounds, reference: Reference | None, expected: Expected | None) -> None:
        self._bounds, self._reference, self._expected = bounds, reference, expected
        self._latches: dict[str, _Latch] = {}
        self._reasons: dict[str, Reason] = {}
        self._states: dict[str, State] = {}
        self._requests_seen: tuple[int, int] | None = None

    def look(self, totals: Totals, mark: tuple[int, int]) -> Verdict:
        """Judge a window. `mark`: requests and comparisons since the process began; where neither has changed, nothing is new."""
        looks = _looks(totals, self._bounds, self._reference, self._expected)
        seen, self._requests_seen = self._requests_seen, mark
        for each in looks:
            latch = self._latches.setdefault(each.type, _Latch(self._bounds.raise_after, self._bounds.clear_after))
            place = 1 if each.type == "AgreementLow" and totals.answered else 0
            if each.over is not None and each.calm is not None and (seen is None or seen[place] != mark[place]):
                latch.look(each.over, each.calm)
                if each.over or each.type not in self._reasons:
                    self._reasons[each.type] = Reason(each.type, each.message, each.value, each.bound)
            if not latch.on and each.over is None:
                self._states[each.type] = State.TOO_LITTLE
            else:
                self._states[each.type] = State.OUTSIDE if latch.on else State.OK
        reasons = [self._reasons[each.type] for each in looks if self._latches[each.type].on]
        return verdict(self._states, reasons, figures(totals, self._reference))


def verdict(states: dict[str, State], reasons: Sequence[Reason], found: Figures) -> Verdict:
    """Put questions together: one that is outside decides, then one of which too little is known."""
    there = set(states.values())
    state = next((each for each in (State.OUTSIDE, State.TOO_LITTLE) if each in there), State.OK)
    return Verdict(state, dict(states), tuple(reasons), found)


def _looks(totals: Totals, bounds: Bounds, reference: Reference | None, expected: Expected | None) -> list[_Look]:
    strict = figures(totals, reference, bounds.tail)
    known = totals.seen >= bounds.least_seen
    looks: list[_Look] = []
    if bounds.agreement is not None:
        enough = totals.effective >= bounds.least_compared or (totals.answered == 0 and known)
        value, high, bound = strict.agreement.estimate, strict.agreement.high, bounds.agreement
        message = (
            f"{_percent(value)} of all answers are the larger model's, at most {_percent(high)}; {_percent(bound)} are wanted"
            f" ({totals.compared} compared)"
        )
        looks.append(_look("AgreementLow", enough, high < bound, value >= bound, value, bound, message))
    if reference is not None:
        value = strict.psi or 0.0
        chance = by_chance(len(reference.cells), reference.total, totals.seen, bounds.tail) if known else math.inf
        bound = max(bounds.psi, chance)
        message = f"the confidences have moved: PSI {value:.3f}, allowed {bound:.3f} ({totals.rows} rows)"
        looks.append(
            _look(
                "ConfidenceDrift",
                known,
                value > bound,
                value < max(min(bounds.psi_calm, bounds.psi), chance),
                value,
                bound,
                message,
            )
        )
    if expected is not None:
        value, low, bound = strict.escalation.estimate, strict.escalation.low, min(1.0, expected.high + bounds.escalation)
        message = (
            f"{_percent(value)} of all rows are escalated, at least {_percent(low)}; up to {_percent(bound)} were expected"
            f" ({totals.rows} rows)"
        )
        looks.append(_look("EscalationHigh", known, low > bound, value <= bound, value, bound, message))
    return looks


def _look(kind: str, enough: bool, over: bool, calm: bool, value: float, bound: float, message: str) -> _Look:
    return _Look(kind, over if enough else None, calm if enough else None, value, bound, message)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
