"""Figures with their intervals as a picture: a row for each thing compared, a panel for each figure. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Mark = Literal["ours", "taken", "other"]

_STYLE = """
.paper{fill:#fff}text{fill:#1f2937;font:13px system-ui,sans-serif}.soft{fill:#6b7280;font-size:12px}
.title{font-size:16px;font-weight:600}.grid{stroke:#e5e7eb}.line{stroke:#6b7280;stroke-dasharray:3 3}.bar{stroke-width:2}
.ours{fill:#2563eb;stroke:#2563eb}.taken{fill:#15803d;stroke:#15803d}.other{fill:#9ca3af;stroke:#9ca3af}
@media(prefers-color-scheme:dark){.paper{fill:#111827}text{fill:#f3f4f6}.soft{fill:#9ca3af}.grid{stroke:#374151}
.line{stroke:#9ca3af}.ours{fill:#60a5fa;stroke:#60a5fa}.taken{fill:#4ade80;stroke:#4ade80}.other{fill:#6b7280;stroke:#6b7280}}
""".strip()
_NAMES, _PANEL, _VALUE, _GAP, _TOP, _ROW, _BOTTOM, _LEAST = 244, 190, 62, 28, 96, 24, 16, 560


@dataclass(frozen=True, slots=True)
class Value:
    """A figure and the ends of its interval."""

    at: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure. `line`: a goal or what is compared with; `most`: values beyond are drawn at the edge, with their number."""

    title: str
    words: Callable[[float], str]
    line: float | None = None
    most: float = math.inf
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One thing compared; a value for each panel, or None where it was not measured."""

    name: str
    mark: Mark
    values: tuple[Value | None, ...]


def panels(title: str, below: str, columns: Sequence[Panel], rows: Sequence[Row]) -> str:
    """Return an SVG that needs nothing else, light and dark.

    Raises:
        ValueError: a row has more or fewer values than there are panels.
    """
    height = _TOP + _ROW * len(rows) + _BOTTOM
    width = max(_LEAST, _NAMES + len(columns) * (_PANEL + _VALUE + _GAP))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        f'<text class="title" x="16" y="28">{escape(title)}</text>',
        f'<text class="soft" x="16" y="48">{escape(below)}</text>',
    ]
    for place, row in enumerate(rows):
        y = _TOP + _ROW * place + _ROW // 2
        parts.append(f'<text x="16" y="{y + 4}">{escape(row.name)}</text>')
    for number, (panel, values) in enumerate(zip(columns, zip(*(row.values for row in rows), strict=True), strict=True)):
        left = _NAMES + number * (_PANEL + _VALUE + _GAP)
        parts += _panel(panel, list(zip(rows, values, strict=True)), left, height)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, rows: Sequence[tuple[Row, Value | None]], left: int, height: int) -> list[str]:
    place = _scale(panel, [value for _, value in rows if value is not None], left)
    parts = [f'<text class="soft" x="{left}" y="{_TOP - 14}">{escape(panel.title)}</text>']
    if panel.line is not None:
        x = place(panel.line)
        parts.append(f'<line class="line" x1="{x}" y1="{_TOP - 4}" x2="{x}" y2="{height - _BOTTOM}"/>')
    for number, (row, value) in enumerate(rows):
        y = _TOP + _ROW * number + _ROW // 2
        parts.append(f'<line class="grid" x1="{left}" y1="{y}" x2="{left + _PANEL}" y2="{y}"/>')
        if value is None:
            continue
        if value.low < value.high:
            parts.append(f'<line class="bar {row.mark}" x1="{place(value.low)}" y1="{y}" x2="{place(value.high)}" y2="{y}"/>')
        parts.append(f'<circle class="{row.mark}" cx="{place(value.at)}" cy="{y}" r="5"/>')
        parts.append(f'<text class="soft" x="{left + _PANEL + 12}" y="{y + 4}">{escape(panel.words(value.at))}</text>')
    return parts


def _scale(panel: Panel, values: Sequence[Value], left: int) -> Callable[[float], float]:
    """Return what gives a value's place in the panel: all intervals and the line are inside it."""

    def place(value: float) -> float:
        return math.log(value) if panel.logarithmic else value

    drawn = [min(end, panel.most) for value in values for end in (value.at, value.low, value.high)]
    drawn += [panel.line] if panel.line is not None else []
    low, high = place(min(drawn)), place(max(drawn))
    span = (high - low) or 1.0
    return lambda value: round(left + 6 + (place(min(value, panel.most)) - low) / span * (_PANEL - 12), 1)
