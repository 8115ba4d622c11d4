"""Points as a picture: an SVG that needs nothing else. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from stillhouse.passes.placing import RADIUS, Box, Label, Segment, place

__all__ = ["Axis", "Point", "scatter"]

_STYLE = """
.paper{fill:#fff}text{fill:#1f2937;font:13px system-ui,sans-serif}.soft{fill:#6b7280;font-size:12px}
.title{font-size:16px;font-weight:600}.axis{stroke:#6b7280}.passed{fill:#2563eb}.missed{fill:none;stroke:#9ca3af;stroke-width:2}
.taken{fill:#15803d}.bar{stroke:#9ca3af}.leader{stroke:#9ca3af;stroke-width:.75}
@media(prefers-color-scheme:dark){.paper{fill:#111827}text{fill:#f3f4f6}.soft{fill:#9ca3af}.axis{stroke:#9ca3af}.passed{fill:#60a5fa}
.taken{fill:#4ade80}.missed,.bar,.leader{stroke:#6b7280}}
""".strip()
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 400, 84, 160, 64, 64


@dataclass(frozen=True, slots=True)
class Point:
    """What stands somewhere: `low` and `high` are the ends of its height's interval; what is not finite stands on the floor.

    `taken`: another colour. `passed`: full, `missed`: hollow.
    """

    name: str
    x: float
    y: float
    kind: Literal["taken", "passed", "missed"]
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Axis:
    """How values of an axis are written, and whether their logarithms are drawn (positive values only)."""

    words: Callable[[float], str]
    logarithmic: bool = True

    def place(self, value: float) -> float:
        """Return where a value stands before scaling; NaN where it stands nowhere."""
        if not math.isfinite(value) or (self.logarithmic and value <= 0):
            return math.nan
        return math.log(value) if self.logarithmic else value


def scatter(points: Sequence[Point], x: Axis, y: Axis, title: str, below: str) -> str:
    """Return the picture of one or more points; `below` stands under the title."""
    across = [each.x for each in points]
    heights = [value for each in points for value in (each.y, each.low, each.high)]
    floor = _HEIGHT - _BOTTOM
    right, up = _scale(across, x, _LEFT, _WIDTH - _RIGHT), _scale(heights, y, floor, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="28">{escape(title)}</text>',
        f'<text class="soft" x="{_LEFT}" y="48">{escape(below)}</text>',
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{_WIDTH - _RIGHT}" y2="{floor}"/>',
        f'<line class="axis" x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{floor}"/>',
    ]
    for value in _ends(across, x):
        parts.append(
            f'<text class="soft" x="{right(value)}" y="{floor + 20}" text-anchor="middle">{escape(x.words(value))}</text>'
        )
    for value in _ends(heights, y):
        parts.append(f'<text class="soft" x="{_LEFT - 8}" y="{up(value) + 4}" text-anchor="end">{escape(y.words(value))}</text>')
    bars = [bar for each in points if (bar := _bar(each, right, up, y)) is not None]
    labels = _named(points, right, up, [*bars, (_LEFT, floor, _WIDTH - _RIGHT, floor)])
    parts += [_line("bar", bar) for bar in bars]
    parts += [_line("leader", label.leader) for label in labels if label is not None and label.leader is not None]
    for each, label in zip(points, labels, strict=True):
        name = escape(each.name)
        # A browser shows the title to whom points at the mark: also where there was no room for the name.
        parts.append(
            f'<circle class="{each.kind}" cx="{right(each.x)}" cy="{up(each.y)}" r="{RADIUS:g}"><title>{name}</title></circle>'
        )
        if label is not None:
            anchor = "" if label.anchor == "start" else f' text-anchor="{label.anchor}"'
            parts.append(f'<text x="{label.x:g}" y="{label.y:g}"{anchor}>{name}</text>')
    if None in labels:
        words = f"{labels.count(None)} more names: point at a mark"
        parts.append(f'<text class="soft" x="{_WIDTH - 8}" y="28" text-anchor="end">{words}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _named(
    points: Sequence[Point], right: Callable[[float], float], up: Callable[[float], float], lines: Sequence[Segment]
) -> list[Label | None]:
    """Return where each point's name stands; what was taken has the first choice, what missed a limit the last."""
    order = sorted(range(len(points)), key=lambda at: ("taken", "passed", "missed").index(points[at].kind))
    # Down to the letters below the axis, and in the margin on the right, where names of the rightmost points stand.
    paper = Box(_LEFT + 2, _TOP - 10, _WIDTH - 4, _HEIGHT - _BOTTOM + 9)
    placed = place([(right(points[at].x), up(points[at].y), points[at].name) for at in order], paper, lines)
    found = dict(zip(order, placed, strict=True))
    return [found[at] for at in range(len(points))]


def _bar(each: Point, right: Callable[[float], float], up: Callable[[float], float], y: Axis) -> Segment | None:
    """Return the line of a point's interval, where there is one to draw."""
    if not (each.low < each.high and math.isfinite(y.place(each.low)) and math.isfinite(y.place(each.high))):
        return None
    at = right(each.x)
    return at, up(each.low), at, up(each.high)


def _line(kind: str, line: Segment) -> str:
    return '<line class="{}" x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}"/>'.format(kind, *line)


def _ends(values: Sequence[float], axis: Axis) -> list[float]:
    """Return the least and the greatest of what can be drawn."""
    drawn = [value for value in values if math.isfinite(axis.place(value))]
    return list(dict.fromkeys((min(drawn), max(drawn)))) if drawn else []


def _scale(values: Sequence[float], axis: Axis, start: float, end: float) -> Callable[[float], float]:
    """Return what gives a value's place between `start` and `end`, with some room at both."""
    places = [axis.place(value) for value in _ends(values, axis)] or [0.0]
    low, high = min(places), max(places)
    room = (high - low) * 0.1 or 1.0

    def place(value: float) -> float:
        found = axis.place(value)
        share = (found - low + room) / (high - low + 2 * room) if math.isfinite(found) else 0.0
        return round(start + share * (end - start), 1)

    return place
