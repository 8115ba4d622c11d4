"""Which operator gets which precision: the fewest bytes within a loss that is measured, not added up. Pure.

What operators lose alone orders the steps; what they lose together only the whole model shows, so every stop is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stillhouse.passes.compress.lowering import Precision

__all__ = ["Assigned", "Level", "Move", "assign", "moves"]

TRIES = 8
"""Steps beyond the first that is too much which are tried alone, those that save most first."""


@dataclass(frozen=True, slots=True)
class Level:
    """An operator in a precision: bytes of its weights, and the damage that it does alone."""

    precision: Precision
    bytes: int
    damage: float


@dataclass(frozen=True, slots=True)
class Move:
    """A step down: an operator to a precision, the bytes that it saves, and the damage that it adds."""

    operator: str
    precision: Precision
    saves: int
    adds: float


@dataclass(frozen=True, slots=True)
class Assigned:
    """The precision of each operator that is not FP32, what they lose together, and how many models were measured for it.

    `lowest`: what is lost with every step taken; `first`: what the gentlest step alone loses, 0 where that was not asked.
    """

    choice: Mapping[str, Precision]
    loss: float
    measured: int
    lowest: float
    first: float


def moves(levels: Mapping[str, Sequence[Level]]) -> list[Move]:
    """Return the steps from FP32 down, the one with the least damage for a saved byte first.

    Of an operator only those levels count that no two others are better than between them (its lower convex hull), so that its
    own steps stand in their order. `levels` of each operator hold FP32, with a damage of 0.
    """
    found: list[Move] = []
    for name, each in levels.items():
        at = max(each, key=lambda level: level.bytes)
        while True:
            below = [level for level in each if level.bytes < at.bytes and math.isfinite(level.damage)]
            if not below:
                break
            best = min(below, key=lambda level: (_rate(at, level), level.bytes))
            found.append(Move(name, best.precision, at.bytes - best.bytes, max(0.0, best.damage - at.damage)))
            at = best
    return sorted(found, key=lambda move: (move.adds / move.saves, -move.saves, move.operator))


def assign(steps: Sequence[Move], budget: float, measure: Callable[[Mapping[str, Precision]], float]) -> Assigned:
    """Take as many steps as lose no more than `budget` together; `measure` says what a choice loses.

    First the longest run of steps, by halving; then those behind it that save most, one by one. `choice` is empty where even the
    first step is too much.
    """
    losses: dict[int, float] = {0: 0.0}
    measured = 0

    def loss(count: int) -> float:
        nonlocal measured
        if count not in losses:
            losses[count] = measure(_after(steps[:count]))
            measured += 1
        return losses[count]

    low, high = 0, len(steps)
    lowest = loss(high)
    if lowest <= budget:
        low = high
    while high - low > 1:
        middle = (low + high) // 2
        if loss(middle) <= budget:
            low = middle
        else:
            high = middle
    taken, reached = list(steps[:low]), losses[low]
    for step in sorted(steps[low:], key=lambda step: -step.saves)[:TRIES] if low < len(steps) else ():
        if budget - reached < step.adds / 4:  # losses add up within a factor of a few: it would be tried in vain
            continue
        found = measure(_after([*taken, step]))
        measured += 1
        if found <= budget:
            taken, reached = [*taken, step], found
    return Assigned(_after(taken), reached, measured, lowest, losses.get(1, 0.0))


def _after(steps: Sequence[Move]) -> dict[str, Precision]:
    """Return the choice after some steps. Of an operator the later one counts."""
    return {step.operator: step.precision for step in steps}


def _rate(at: Level, level: Level) -> float:
    return max(0.0, level.damage - at.damage) / (at.bytes - level.bytes)
