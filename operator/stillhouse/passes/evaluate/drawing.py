"""A cascade's curve as text for a terminal and as an SVG that needs nothing else. Draws the JSON that lies with the artifact."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal

__all__ = ["svg", "text_chart"]

Figure = Literal["agreement", "accuracy"]
_SIGNS = {"curve": "•", "lot": "·", "point": "◆", "aim": "─", "corner": "└", "side": "│", "floor": "─", "mark": "┴"}
_ASCII = {"curve": "*", "lot": ".", "point": "@", "aim": "-", "corner": "+", "side": "|", "floor": "-", "mark": "+"}

_STYLE = """
.paper{fill:#fff}text{fill:#1f2937;font:13px system-ui,sans-serif}.soft{fill:#6b7280;font-size:12px}
.title{font-size:16px;font-weight:600}.grid{stroke:#e5e7eb}.axis{stroke:#6b7280}
.band{fill:#2563eb;opacity:.15}.curve{fill:none;stroke:#2563eb;stroke-width:2.5;stroke-linejoin:round}
.lot{stroke:#9ca3af;stroke-width:1.5;stroke-dasharray:6 4}.aim{stroke:#15803d;stroke-width:1.5;stroke-dasharray:2 3}
.aimtext{fill:#15803d;font-size:12px}.halo{stroke:#fff;stroke-width:5;paint-order:stroke;stroke-linejoin:round}.bar{stroke:#c2410c;stroke-width:1.5}.point{fill:#c2410c;stroke:#fff;stroke-width:2}
@media(prefers-color-scheme:dark){.paper{fill:#111827}text{fill:#f3f4f6}.soft{fill:#9ca3af}.grid{stroke:#374151}
.axis{stroke:#9ca3af}.band{fill:#60a5fa}.curve{stroke:#60a5fa}.lot{stroke:#6b7280}.aim{stroke:#4ade80}.aimtext{fill:#4ade80}
.halo{stroke:#111827}.bar{stroke:#fb923c}.point{fill:#fb923c;stroke:#111827}}
""".strip()
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 460, 72, 28, 64, 92


def text_chart(
    curve: Mapping[str, Any],
    point: Mapping[str, Any] | None = None,
    aim: Mapping[str, float] | None = None,
    *,
    figure: Figure = "agreement",
    width: int = 60,
    height: int = 14,
    ascii_only: bool = False,
) -> str:
    """Return the curve as lines of text.

    Args:
        curve: `Curve.to_json()`.
        point: `Point.to_json()` of the chosen thresholds.
        aim: `{"targetAgreement": …}` or `{"escalationBudget": …}`: a line to compare with.
        figure: what is drawn over the escalation rate.
        width: columns of the chart without its scale, 20 or more.
        height: rows of the chart, 5 or more.
        ascii_only: for terminals without other signs.
    """
    signs = _ASCII if ascii_only else _SIGNS
    x, y = _line(curve, figure)
    low, high, ticks = _scale([*y, _alone(curve, figure)], figure)
    grid = [[" "] * width for _ in range(height)]

    def row_of(value: float) -> int:
        return min(height - 1, max(0, round((high - value) / (high - low) * (height - 1))))

    def column_of(value: float) -> int:
        return min(width - 1, max(0, round(value * (width - 1))))

    for name, value in (aim or {}).items():
        if name == "targetAgreement" and figure == "agreement" and low <= value <= high:
            grid[row_of(value)] = [signs["aim"]] * width
        if name == "escalationBudget":
            for row in grid:
                row[column_of(value)] = signs["side"]
    first, last = _alone(curve, figure), y[-1]
    for column in range(width):
        share = column / (width - 1)
        grid[row_of(first + (last - first) * share)][column] = signs["lot"]
    for column in range(width):
        share = column / (width - 1)
        if share >= x[0]:
            grid[row_of(_at(x, y, share))][column] = signs["curve"]
    if point is not None and point[figure] is not None:
        grid[row_of(point[figure]["estimate"])][column_of(point["escalation"]["estimate"])] = signs["point"]
    marks = {row_of(tick): _percent(tick, ticks) for tick in ticks}
    lines = [f"{figure} with the last model" if figure == "agreement" else figure]
    lines += [f"{marks.get(place, ''):>8} {signs['side']}{''.join(row).rstrip()}" for place, row in enumerate(grid)]
    floor, scale = [signs["floor"]] * width, [" "] * (width + 4)
    for tenth in range(0, 11, 2):
        column = column_of(tenth / 10)
        floor[column] = signs["mark"]
        label = f"{tenth * 10}%"
        start = max(0, column - len(label) // 2)
        scale[start : start + len(label)] = label
    lines += [f"{'':>8} {signs['corner']}{''.join(floor)}", f"{'':>10}{''.join(scale).rstrip()}  escalated"]
    legend = f"{signs['curve']} by confidence   {signs['lot']} by lot"
    if point is not None and point[figure] is not None:
        legend += f"   {signs['point']} chosen: {_words(point, figure)}"
    return "\n".join([*lines, f"{'':>10}{legend}"])


def svg(
    curve: Mapping[str, Any],
    point: Mapping[str, Any] | None = None,
    aim: Mapping[str, float] | None = None,
    *,
    figure: Figure = "agreement",
    title: str = "",
) -> str:
    """Return the curve as an SVG document: no script, no font and no picture from elsewhere; light and dark.

    The arguments are `text_chart`'s; around the chosen point stand its 95 % intervals, below the curve of agreement its lower
    bound.
    """
    x, y = _line(curve, figure)
    below = [float(each["agreementLow"]) for each in curve["points"]] if figure == "agreement" else []
    alone = _alone(curve, figure)
    low, high, ticks = _scale([*y, alone], figure)
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(share: float, value: float) -> tuple[float, float]:
        value = min(high, max(low, value))
        return round(_LEFT + share * inner_w, 1), round(_TOP + (high - value) / (high - low) * inner_h, 1)

    def line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
        return f'<line class="{kind}" x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"/>'

    def words(kind: str, place: tuple[float, float], text: str, anchor: str = "start") -> str:
        return f'<text class="{kind}" x="{place[0]}" y="{place[1]}" text-anchor="{anchor}">{escape(text)}</text>'

    heading = title or f"{figure.capitalize()} over escalation"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(heading)}">',
        f"<title>{escape(heading)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        words("title", (_LEFT, 28), heading),
        words("soft", (_LEFT, 48), _subtitle(curve, figure)),
    ]
    for tick in ticks:
        parts += [
            line("grid", at(0, tick), at(1, tick)),
            words("soft", (_LEFT - 10, at(0, tick)[1] + 4), _percent(tick, ticks), "end"),
        ]
    for tenth in range(0, 11, 2):
        place = at(tenth / 10, low)
        parts += [
            line("axis", place, (place[0], place[1] + 5)),
            words("soft", (place[0], place[1] + 20), f"{tenth * 10}%", "middle"),
        ]
    parts += [
        line("axis", at(0, low), at(1, low)),
        line("axis", at(0, low), at(0, high)),
        words("", (_LEFT + inner_w / 2, _HEIGHT - 48), "requests that reach the last model", "middle"),
    ]
    if below:
        edge = [
            *(at(*each) for each in zip(x, y, strict=True)),
            *reversed([at(*each) for each in zip(x, below[::-1], strict=True)]),
        ]
        parts.append(f'<polygon class="band" points="{_joined(edge)}"/>')
    parts.append(line("lot", at(0, alone), at(1, y[-1])))
    parts.append(f'<polyline class="curve" points="{_joined([at(*each) for each in zip(x, y, strict=True)])}"/>')
    for name, value in (aim or {}).items():
        if name == "targetAgreement" and figure == "agreement":
            place = at(1, value)
            parts += [line("aim", at(0, value), place), words("aimtext", (place[0], place[1] - 6), f"target {value:.2%}", "end")]
        elif name == "escalationBudget":
            place = at(value, high)
            parts += [line("aim", at(value, low), place), words("aimtext", (place[0] + 5, place[1] + 12), f"budget {value:.1%}")]
    if point is not None and point[figure] is not None:
        parts += _chosen(point, figure, at, line, words)
    legend = _HEIGHT - 18
    parts += [
        line("curve", (_LEFT, legend - 4), (_LEFT + 26, legend - 4)),
        words("soft", (_LEFT + 34, legend), "by confidence" + (" (shaded: down to the 97.5 % lower bound)" if below else "")),
        line("lot", (_LEFT + 440, legend - 4), (_LEFT + 466, legend - 4)),
        words("soft", (_LEFT + 474, legend), "by lot at the same rate"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _chosen(point: Mapping[str, Any], figure: Figure, at: Any, line: Any, words: Any) -> list[str]:
    across, up = point["escalation"], point[figure]
    x, y = at(across["estimate"], up["estimate"])
    parts = [
        line("bar", at(across["low"], up["estimate"]), at(across["high"], up["estimate"])),
        line("bar", at(across["estimate"], up["low"]), at(across["estimate"], up["high"])),
        f'<circle class="point" cx="{x}" cy="{y}" r="6"/>',
    ]
    right = across["estimate"] > 0.55
    left, foot = x + (-14 if right else 14), _HEIGHT - _BOTTOM - 30
    top = min(y + 30, foot)
    anchor = "end" if right else "start"
    parts.append(words("halo", (left, top), _words(point, figure), anchor))
    thresholds = ", ".join("none answers" if value is None else f"{value:.4g}" for value in point["thresholds"])
    parts.append(words("soft halo", (left, top + 18), f"threshold {thresholds}, cost {point['cost']:.3g}", anchor))
    return parts


def _line(curve: Mapping[str, Any], figure: Figure) -> tuple[list[float], list[float]]:
    """Return the curve from the lowest escalation to the highest."""
    points = [(float(each["escalation"]), each[figure]) for each in reversed(curve["points"])]
    if any(value is None for _, value in points):
        raise ValueError(f"the curve has no {figure}: there were no labels")
    return [place for place, _ in points], [float(value) for _, value in points]


def _alone(curve: Mapping[str, Any], figure: Figure) -> float:
    """Return the figure without any escalation: the area by lot is the mean of that and of the figure at its end."""
    return 2 * float(curve["areas"][figure]["random"]) - float(curve["points"][0][figure])


def _at(x: Sequence[float], y: Sequence[float], share: float) -> float:
    place = bisect.bisect_right(x, share)
    if place == len(x):
        return y[-1]
    before = max(place - 1, 0)
    width = x[place] - x[before]
    return y[before] if width <= 0 else y[before] + (y[place] - y[before]) * (share - x[before]) / width


def _scale(values: Sequence[float], figure: Figure) -> tuple[float, float, list[float]]:
    """Return ends and ticks of the upright axis: round numbers around the values, not more than 1 for a share."""
    low, high = min(values), 1.0 if figure == "agreement" else max(values)
    span = max(high - low, 0.002)
    step = next(s * 10.0**e for e in range(-5, 1) for s in (1, 2, 5) if s * 10.0**e * 5 >= span)
    bottom = max(0, math.floor(round(low / step, 6)))
    top = min(max(math.ceil(round(high / step, 6)), bottom + 1), math.floor(round(1 / step, 6)))
    bottom = min(bottom, top - 1)
    return bottom * step, top * step, [round(place * step, 10) for place in range(bottom, top + 1)]


def _percent(tick: float, ticks: Sequence[float]) -> str:
    step = (ticks[1] - ticks[0]) * 100
    return f"{tick * 100:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}%"


def _words(point: Mapping[str, Any], figure: Figure) -> str:
    return f"{point[figure]['estimate']:.2%} {figure} at {point['escalation']['estimate']:.1%} escalated"


def _subtitle(curve: Mapping[str, Any], figure: Figure) -> str:
    area = curve["areas"][figure]
    gain = "" if area["gain"] is None else f", {area['gain']:.0%} of the way to the best order"
    return f"{curve['n']} rows; area {area['area']:.4f}, by lot {area['random']:.4f}{gain}"


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
