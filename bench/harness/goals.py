"""What a benchmark is to reach, and whether it did: judged by the end of the range that is against us."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from bench.harness.results import table
from bench.harness.rounds import Spread

__all__ = ["judge", "verdict"]


def verdict(goal: str, spread: Spread) -> str:
    """Return `met`, `met in the median` or `MISSED`.

    `goal` is an operator (`>=`, `<=`, `=`) and a number, such as `>= 0.7`.

    Raises:
        ValueError: the goal is of another form.
    """
    sign, _, number = goal.partition(" ")
    wanted = float(number)
    worst = {">=": spread.low, "<=": spread.high, "=": spread.high if spread.high != wanted else spread.low}
    if sign not in worst:
        raise ValueError(f"a goal begins with >=, <= or =, not with {sign}")

    def meets(value: float) -> bool:
        return {">=": value >= wanted, "<=": value <= wanted, "=": value == wanted}[sign]

    if meets(worst[sign]):
        return "met"
    return "met in the median" if meets(spread.median) else "MISSED"


def judge(goals: Mapping[str, str], ratios: Mapping[str, Spread]) -> int:
    """Print every figure with its goal; return 1 where a goal is missed also in the median, or was not measured."""
    rows, missed = [], []
    for name, spread in ratios.items():
        said = verdict(goals[name], spread) if name in goals else ""
        missed += [name] if said == "MISSED" else []
        rows.append([name, f"{spread.median:.4g}", f"{spread.low:.4g}-{spread.high:.4g}", goals.get(name, ""), said])
    print(table(["figure", "median", "range", "goal", ""], rows))
    missed += [name for name in goals if name not in ratios]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0
