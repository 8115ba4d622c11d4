"""A search as a picture: what every candidate weighs and how fast it answers. An SVG that needs nothing else. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from stillhouse.passes.evaluate.candidate import Measured
from stillhouse.passes.evaluate.intervals import Interval
from stillhouse.sizes import size

__all__ = ["svg"]

_STYLE = """
.paper{fill:#fff}text{fill:#1f2937;font:13px system-ui,sans-serif}.soft{fill:#6b7280;font-size:12px}
.title{font-size:16px;font-weight:600}.axis{stroke:#6b7280}.passed{fill:#2563eb}.missed{fill:none;stroke:#9ca3af;stroke-width:2}.taken{fill:#15803d}.bar{stroke:#9ca3af}
@media(prefers-color-scheme:dark){.paper{fill:#111827}text{fill:#f3f4f6}.soft{fill:#9ca3af}.axis{stroke:#9ca3af}.passed{fill:#60a5fa}
.taken{fill:#4ade80}.missed,.bar{stroke:#6b7280}}
""".strip()
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 400, 72, 160, 64, 64


def svg(measured: Sequence[Measured], taken: Measured, goal: str) -> str:
    """Return the picture: bytes to the right, answers a second upwards (with its interval), both logarithmic.

    Full: it met every limit. Hollow: it did not, or could not be told. Another colour: it was taken. Candidates without a
    throughput (a gate without rows) stand on the floor.
    """
    sizes = [float(max(each.size, 1)) for each in measured]
    speeds = [_speed(each) for each in measured]
    ends = [end for each in speeds for end in (each.low, each.estimate, each.high) if math.isfinite(end) and end > 0] or [1.0]
    wide, tall = _span(sizes), _span(ends)

    def x(value: float) -> float:
        return round(_LEFT + _share(value, wide) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - _share(value, tall) * (_HEIGHT - _TOP - _BOTTOM), 1)

    floor = _HEIGHT - _BOTTOM
    heading = f"Candidates, goal {goal}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(heading)}">',
        f"<title>{escape(heading)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="28">{escape(heading)}</text>',
        f'<text class="soft" x="{_LEFT}" y="48">answers a second over bytes; hollow: a limit was missed; green: taken</text>',
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{_WIDTH - _RIGHT}" y2="{floor}"/>',
        f'<line class="axis" x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{floor}"/>',
    ]
    for value in dict.fromkeys((min(sizes), max(sizes))):
        parts.append(f'<text class="soft" x="{x(value)}" y="{floor + 20}" text-anchor="middle">{size(value)}</text>')
    for value in dict.fromkeys((min(ends), max(ends))):
        parts.append(f'<text class="soft" x="{_LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value:.0f}/s</text>')
    for each, wide_as, speed in zip(measured, sizes, speeds, strict=True):
        kind = "taken" if each is taken else "passed" if each.outcome == "passed" else "missed"
        at, up = x(wide_as), y(speed.estimate)
        if 0 < speed.low < speed.high < math.inf:
            parts.append(f'<line class="bar" x1="{at}" y1="{y(speed.low)}" x2="{at}" y2="{y(speed.high)}"/>')
        parts.append(f'<circle class="{kind}" cx="{at}" cy="{up}" r="6"/>')
        parts.append(f'<text x="{at + 12}" y="{up + 4}">{escape(each.precision)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _speed(each: Measured) -> Interval:
    return each.figures.get("throughput") or Interval(0.0, 0.0, 0.0, 0)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the logarithms of both ends, with some room."""
    low, high = math.log(min(values)), math.log(max(values))
    room = max(0.1, (high - low) * 0.1)
    return low - room, high + room


def _share(value: float, span: tuple[float, float]) -> float:
    if not (math.isfinite(value) and value > 0):
        return 0.0
    return min(1.0, max(0.0, (math.log(value) - span[0]) / (span[1] - span[0])))
