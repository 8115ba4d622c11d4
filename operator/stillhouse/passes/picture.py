"""Points as a picture: an SVG that needs nothing else. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

__all__ = ["Axis", "Point", "scatter"]

_STYLE = """
.paper{fill:#fff}text{fill:#1f2937;font:13px system-ui,sans-serif}.soft{fill:#6b7280;font-size:12px}
.title{font-size:16px;font-weight:600}.axis{stroke:#6b7280}.passed{fill:#2563eb}.missed{fill:none;stroke:#9ca3af;stroke-width:2}
.taken{fill:#15803d}.bar{stroke:#9ca3af}
@media(prefers-color-scheme:dark){.paper{fill:#111827}text{fill:#f3f4f6}.soft{fill:#9ca3af}.axis{stroke:#9ca3af}.passed{fill:#60a5fa}
.taken{fill:#4ade80}.missed,.bar{stroke:#6b7280}}
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
    for each in points:
        at = right(each.x)
        if each.low < each.high and math.isfinite(y.place(each.low)) and math.isfinite(y.place(each.high)):
            parts.append(f'<line class="bar" x1="{at}" y1="{up(each.low)}" x2="{at}" y2="{up(each.high)}"/>')
        parts.append(f'<circle class="{each.kind}" cx="{at}" cy="{up(each.y)}" r="6"/>')
        parts.append(f'<text x="{at + 12}" y="{up(each.y) + 4}">{escape(each.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


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
