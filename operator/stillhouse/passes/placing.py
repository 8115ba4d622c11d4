"""Where the names of points stand in a picture: on no other name, on no point, and on the paper. Pure.

A name stands right of its point, else left, above or below; who comes first has the choice. Where one finds no room so, the
names of all points around it stand in a column beside them, in their points' order, each with a line that leads to it: lines to
a column cross none of its names. What even that leaves over looks for room one by one. The same points always give the same
picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ["Box", "Label", "Segment", "place", "width_of"]

Segment = tuple[float, float, float, float]
"""A line, as x and y of both its ends."""

SIZE: Final = 13.0
"""Of the letters, in pixels: the height of a font, of which three quarters lie above the line that letters stand on."""
RADIUS: Final = 6.0
_ASCENT, _DESCENT, _MARGIN, _GAP = 0.8, 0.25, 1.0, 6.0
_NARROW, _WIDE = frozenset(" !'(),-./:;I[]fijlrt|"), frozenset("%@MWmw")
_NEAR = 36.0
"""Marks that lie as near, across and up, are one group."""
_STEPS: Final = (24.0, 44.0, 72.0, 108.0, 152.0, 204.0)
"""Between a group and its column."""
_ROW, _CELL = 16.0, 48.0
"""Between two names of a column; and how wide the steps are in which the last ones look for room, wherever it is."""
_CROWD = 60
"""Of more points than that none looks for room far away: lines all over the paper tell nothing."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Return whether two boxes share any room."""
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: Box) -> bool:
        """Return whether all of another box lies inside."""
        return self.left <= other.left and other.right <= self.right and self.top <= other.top and other.bottom <= self.bottom

    def crossed(self, line: Segment) -> bool:
        """Return whether any part of a line lies inside (Liang & Barsky 1984: the line is clipped side by side)."""
        if max(line[0], line[2]) <= self.left or min(line[0], line[2]) >= self.right:
            return False
        if max(line[1], line[3]) <= self.top or min(line[1], line[3]) >= self.bottom:
            return False
        x, y, dx, dy = line[0], line[1], line[2] - line[0], line[3] - line[1]
        start, end = 0.0, 1.0
        for step, room in ((-dx, x - self.left), (dx, self.right - x), (-dy, y - self.top), (dy, self.bottom - y)):
            if step == 0:
                if room <= 0:
                    return False
                continue
            at = room / step
            start, end = (max(start, at), end) if step < 0 else (start, min(end, at))
        return start < end


@dataclass(frozen=True, slots=True)
class Label:
    """Where a name stands: `x` and `y` of its `anchor` on the line of its letters, the `box` that it takes, the line to it."""

    x: float
    y: float
    anchor: Literal["start", "middle", "end"]
    box: Box
    leader: Segment | None = None


def width_of(text: str) -> float:
    """Return about how wide a text is, rather too much: which font draws it is the viewer's affair."""
    return (
        sum(0.38 if sign in _NARROW else 0.95 if sign in _WIDE else 1.05 if ord(sign) > 0x2E7F else 0.64 for sign in text) * SIZE
    )


def place(
    points: Sequence[tuple[float, float, str]], paper: Box, lines: Sequence[Segment] = (), radius: float = RADIUS
) -> list[Label | None]:
    """Return where the name of each point (x, y, name) stands, None where there is no room left for it.

    `lines`: what else is drawn that names should not stand on, such as intervals; `radius` of the points' marks.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y, _ in points]
    found, narrow = _beside(points, range(len(points)), _Sheet(paper, marks, list(lines)), radius)
    if not narrow:
        return [found[at] for at in range(len(points))]
    groups = [group for group in _groups(points) if not narrow.isdisjoint(group)]
    grouped = {at for group in groups for at in group}
    sheet = _Sheet(paper, marks, list(lines))
    found, left = _beside(points, [at for at in range(len(points)) if at not in grouped], sheet, radius)
    rows = max(1, int((paper.bottom - paper.top) / _ROW))
    groups = [group[at : at + rows] for group in groups for at in range(0, len(group), rows)] + [[at] for at in sorted(left)]
    alone: list[int] = []
    for group in groups:
        column = next((each for each in _columns(points, group, paper, radius) if sheet.takes(each)), None)
        if column is None:
            alone += group
        else:
            sheet.put(column)
            found |= column
    rest, left = _beside(points, sorted(alone), sheet, radius)
    found |= rest
    for at in sorted(left) if len(points) <= _CROWD else ():
        label = next((each for each in _cells(points[at], paper, radius) if sheet.takes({at: each})), None)
        if label is not None:
            sheet.put({at: label})
            found[at] = label
    return [found.get(at) for at in range(len(points))]


@dataclass(slots=True)
class _Sheet:
    """What stands on the paper so far."""

    paper: Box
    marks: list[Box]
    lines: list[Segment]
    boxes: list[Box] = field(default_factory=list)
    there: list[Box] = field(init=False)

    def __post_init__(self) -> None:
        self.there = list(dict.fromkeys(self.marks))  # what lies on each other is looked at once

    def takes(self, labels: Mapping[int, Label]) -> bool:
        """Return whether labels (by their points' numbers) have room; they are not held against each other."""
        if not all(
            self.paper.holds(label.box)
            and not any(label.box.meets(box) for box in self.boxes)
            and not any(label.box.meets(mark) for mark in self.there)
            and not any(label.box.crossed(line) for line in self.lines)
            for label in labels.values()
        ):
            return False
        leaders = [label.leader for label in labels.values() if label.leader is not None]
        if not leaders:
            return True
        # Marks that lie on each other, or that share a column, are in the way of no line between them.
        own = [self.marks[at] for at in labels]
        others = (mark for mark in self.there if not any(mark.meets(each) for each in own))
        return not any(box.crossed(leader) for box in (*self.boxes, *others) for leader in leaders)

    def put(self, labels: Mapping[int, Label]) -> None:
        """Write labels down."""
        self.boxes += [label.box for label in labels.values()]
        self.lines += [label.leader for label in labels.values() if label.leader is not None]


def _beside(
    points: Sequence[tuple[float, float, str]], among: Iterable[int], sheet: _Sheet, radius: float
) -> tuple[dict[int, Label], set[int]]:
    """Put names right of their points, left, above or below; return them and whose had no room, by their points' numbers."""
    found: dict[int, Label] = {}
    left: set[int] = set()
    off = radius + _GAP
    for at in among:
        x, y, name = points[at]
        width = width_of(name)
        sides = (
            _label(x + off, _middle(y), width, "start"),
            _label(x - off, _middle(y), width, "end"),
            _label(x, y - off - SIZE * _DESCENT, width, "middle"),
            _label(x, y + off + SIZE * _ASCENT, width, "middle"),
        )
        label = next((each for each in sides if sheet.takes({at: each})), None)
        if label is None:
            left.add(at)
        else:
            sheet.put({at: label})
            found[at] = label
    return found, left


def _groups(points: Sequence[tuple[float, float, str]]) -> list[list[int]]:
    """Return the points' numbers, those together that lie near each other or near one that does."""
    groups: list[list[int]] = []
    for at, (x, y, _) in enumerate(points):
        near = [
            group
            for group in groups
            if any(abs(points[each][0] - x) < _NEAR and abs(points[each][1] - y) < _NEAR for each in group)
        ]
        joined = sorted([at, *(each for group in near for each in group)])
        groups = [*(group for group in groups if group not in near), joined]
    return groups


def _columns(
    points: Sequence[tuple[float, float, str]], group: Sequence[int], paper: Box, radius: float
) -> Iterator[dict[int, Label]]:
    """Yield where a group's names may stand below each other, the nearest column first."""
    order = sorted(group, key=lambda at: (points[at][1], points[at][0], at))
    first, last = min(points[at][0] for at in group), max(points[at][0] for at in group)
    tall = (len(order) - 1) * _ROW
    middle = (points[order[0]][1] + points[order[-1]][1]) / 2
    half = SIZE * (_ASCENT + _DESCENT) / 2 + _MARGIN + 0.1  # places are rounded
    highest, lowest = paper.top + half, paper.bottom - half - tall
    if lowest < highest:
        return
    for step in _STEPS:
        for x in (last + step, first - step):
            for shift in (0.0, -2 * _ROW, 2 * _ROW, -4 * _ROW, 4 * _ROW):
                top = min(max(middle - tall / 2 + shift, highest), lowest)
                yield {at: _led(points[at], x, top + row * _ROW, radius) for row, at in enumerate(order)}


def _cells(point: tuple[float, float, str], paper: Box, radius: float) -> Iterator[Label]:
    """Yield places all over the paper, the nearest first."""
    x, y, _ = point
    across = [paper.left + at * _CELL for at in range(1 + int((paper.right - paper.left) / _CELL))]
    down = [paper.top + (at + 0.5) * _ROW for at in range(int((paper.bottom - paper.top) / _ROW))]
    cells = [(to_x, to_y) for to_x in across for to_y in down if abs(to_x - x) > radius + _GAP]
    for to_x, to_y in sorted(cells, key=lambda cell: (math.hypot(cell[0] - x, cell[1] - y), cell)):
        yield _led(point, to_x, to_y, radius)


def _middle(y: float) -> float:
    """Return the line that letters stand on whose middle is at a height."""
    return y + SIZE * (_ASCENT - _DESCENT) / 2


def _label(x: float, y: float, width: float, anchor: Literal["start", "middle", "end"]) -> Label:
    x, y = round(x, 1), round(y, 1)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    box = Box(left - _MARGIN, y - SIZE * _ASCENT - _MARGIN, left + width + _MARGIN, y + SIZE * _DESCENT + _MARGIN)
    return Label(x, y, anchor, box)


def _led(point: tuple[float, float, str], to_x: float, to_y: float, radius: float) -> Label:
    """Return a name that begins (left of its point: ends) at a place, with the line from the mark's edge to it."""
    x, y, name = point
    right = to_x >= x
    label = _label(to_x, _middle(to_y), width_of(name), "start" if right else "end")
    end = to_x - 2 * _MARGIN if right else to_x + 2 * _MARGIN
    far = math.hypot(end - x, to_y - y)
    edge = (x + (end - x) / far * radius, y + (to_y - y) / far * radius)
    leader = (round(edge[0], 1), round(edge[1], 1), round(end, 1), round(to_y, 1))
    return Label(label.x, label.y, label.anchor, label.box, leader)
