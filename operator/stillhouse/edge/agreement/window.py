"""What was seen in a sliding window of time, as counts that add up: over buckets, and over processes of one gateway.

**Weights.** A request is compared if the hash chose it *and* it was not dropped (rate, queue, the cloud away). The first happens
alike to all; the second does not: at a busy hour more is dropped. So a compared request stands for all that were chosen in its
bucket: its weight is chosen / compared there. Without drops all weights are one, and the interval is the exact one.

**Size.** Rows of one request are alike, and are no independent evidence. A request of r rows counts as one item of weight r; the
effective number of items is (Σ w)² / Σ w² (Kish 1965). The true one is no smaller, so intervals are rather too wide.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Bucket", "Totals", "Window"]


@dataclass(slots=True)
class Bucket:
    """Counts of one stretch of time; rows unless it says otherwise. `squares`: Σ of rows² over requests."""

    number: int
    cells: list[int]
    requests: int = 0
    rows: int = 0
    squares: int = 0
    answered: int = 0
    chosen: int = 0
    compared: int = 0
    compared_squares: int = 0
    agreed: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """A window's sums.

    `answered`: rows that the edge answered. Of comparisons `weight` is Σ w, `agreeing` that of agreeing rows, `squares_of_weight`
    Σ w².
    """

    cells: tuple[int, ...]
    requests: int = 0
    rows: int = 0
    squares: int = 0
    answered: int = 0
    compared: int = 0
    weight: float = 0.0
    agreeing: float = 0.0
    squares_of_weight: float = 0.0

    def __add__(self, other: Totals) -> Totals:
        """Add another process's. They must have the same reference, or none."""
        sums = {each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self) if each.name != "cells"}
        return Totals(tuple(one + two for one, two in zip(self.cells, other.cells, strict=True)), **sums)

    @property
    def seen(self) -> float:
        """Return how many independent rows there are at least."""
        return self.rows**2 / self.squares if self.squares else 0.0

    @property
    def effective(self) -> float:
        """Return how many independent comparisons there are at least."""
        return self.weight**2 / self.squares_of_weight if self.squares_of_weight else 0.0

    @property
    def escalation(self) -> float:
        """Return the share of rows that were escalated; NaN without rows."""
        return 1 - self.answered / self.rows if self.rows else float("nan")

    @property
    def agreement(self) -> float:
        """Return the share of edge-answered rows that the larger model answers alike; NaN without a comparison."""
        return self.agreeing / self.weight if self.weight else float("nan")


class Window:
    """The last `seconds` in `buckets` parts. `cells`: of the histogram of confidences."""

    def __init__(self, seconds: float, buckets: int, cells: int) -> None:
        self._width, self._most, self._cells = seconds / buckets, buckets, cells
        self._buckets: list[Bucket] = []

    def bucket(self, now: float) -> Bucket:
        """Return the bucket of this moment; a clock that goes back finds the newest one."""
        number = int(now / self._width)
        if not self._buckets or self._buckets[-1].number < number:
            self._buckets.append(Bucket(number, [0] * self._cells))
            self._drop(number)
        return self._buckets[-1]

    def totals(self, now: float) -> Totals:
        """Sum up what is in the window."""
        self._drop(int(now / self._width))
        cells = [0] * self._cells
        requests = rows = squares = answered = compared = 0
        weight = agreeing = squares_of_weight = 0.0
        for each in self._buckets:
            requests += each.requests
            rows += each.rows
            squares += each.squares
            answered += each.answered
            compared += each.compared
            for at, count in enumerate(each.cells):
                cells[at] += count
            if each.compared:
                one = each.chosen / each.compared
                weight += one * each.compared
                agreeing += one * each.agreed
                squares_of_weight += one * one * each.compared_squares
        return Totals(tuple(cells), requests, rows, squares, answered, compared, weight, agreeing, squares_of_weight)

    def _drop(self, number: int) -> None:
        while self._buckets and self._buckets[0].number <= number - self._most:
            del self._buckets[0]
