"""A data report as lines of text, and as an SVG that needs nothing else. Draws the JSON that lies with the artifact."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["svg", "table"]

_STYLE = """
.paper{fill:#fff}text{fill:#1f2937;font:12px system-ui,sans-serif}.soft{fill:#6b7280;font-size:11px}
.title{font-size:14px;font-weight:600}.axis{stroke:#6b7280}.bar{fill:#2563eb}
.more{fill:#93c5fd}.limit{stroke:#c2410c;stroke-dasharray:5 3}
.limittext{fill:#c2410c;font-size:11px}
@media(prefers-color-scheme:dark){.paper{fill:#111827}text{fill:#f3f4f6}.soft{fill:#9ca3af}.axis{stroke:#9ca3af}
.bar{fill:#60a5fa}.more{fill:#1e3a8a}.limit{stroke:#fb923c}.limittext{fill:#fb923c}}
""".strip()
_WIDTH, _HEIGHT, _TOP, _FLOOR, _SIDE, _GAP = 860, 300, 62, 236, 44, 40
_BARS = 60
_WIDTHS = (9, 10, 9, 10, 8, 12)


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the report as lines: one a split, then what is odd about each, then what leaks."""
    lines = [f"{'split':<20}{'rows':>9}{'labelled':>10}{'classes':>9}{'repeated':>10}{'nearly':>8}{'tokens cut':>12}"]
    for name, split in report["splits"].items():
        labelled = split["rows"] - split["unlabelled"] if "labels" in split else None
        cells = (
            f"{split['rows']:,}",
            "–" if labelled is None else f"{labelled:,}",
            "–" if "tail" not in split else f"{split['tail']['classes']:,}",
            f"{split['repeated']:,}",
            f"{split['nearlyRepeated']:,}",
            f"{split['tokens']['cutShare']:.1%}" if "tokens" in split else "–",
        )
        lines.append(f"{name:<20}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)))
    return [*lines, *_remarks(report)]


def _remarks(report: Mapping[str, Any]) -> Iterator[str]:
    for name, split in report["splits"].items():
        tail = split.get("tail")
        if tail and (tail["ratio"] >= 2 or tail["rare"]):
            yield (
                f"{name}: classes of {tail['smallest']:,} to {tail['largest']:,} rows (median {tail['median']:g}); {tail['rare']}"
                f" have fewer than ten, half of the labelled rows are in {tail['half']} of {tail['classes']}"
            )
        if split["conflicts"]:
            yield f"{name}: {split['conflicts']:,} rows say what a row with another label says, or nearly"
        tokens = split.get("tokens")
        if tokens and tokens["cutTexts"]:
            cut = f"{tokens['cutTexts']:,} of {tokens['texts']:,} texts are longer than {tokens['limit']} tokens"
            yield f"{name}: {cut}, the longest has {tokens['quantiles']['100%']:,}"
        if "prepared" in split:
            yield f"{name}: {split['prepared']['rows']:,} rows after balance and augment"
    leaks = [each for each in report["leakage"] if each["near"]]
    for each in leaks:
        yield (
            f"leakage: {each['near']:,} of {each['rows']:,} rows of {each['split']} are nearly in {each['other']},"
            f" {each['exact']:,} exactly"
        )
    if report["leakage"] and not leaks:
        yield f"leakage: none between the splits (similarity above {report['threshold']:g})"


def svg(report: Mapping[str, Any]) -> str:
    """Return the training rows' classes and lengths as an SVG document: no script, no font and no picture from elsewhere."""
    training = report["splits"]["training"]
    panels = []
    if "labels" in training:
        panels.append(_classes(training))
    if "tokens" in training:
        panels.append(_tokens(training["tokens"]))
    width = _WIDTH if len(panels) > 1 else _WIDTH // 2
    each = (width - 2 * _SIDE - _GAP * (len(panels) - 1)) / max(1, len(panels))
    body = [part for place, panel in enumerate(panels) for part in panel(_SIDE + place * (each + _GAP), each)]
    said = (
        f"{training['rows']:,} training rows, {training['repeated']:,} repeated, {training['nearlyRepeated']:,} nearly repeated"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escape(said)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{width}" height="{_HEIGHT}"/>',
            f'<text class="title" x="{_SIDE}" y="26">{escape(said)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _classes(training: Mapping[str, Any]) -> Any:
    counts = list(training["labels"].values())
    prepared = training.get("prepared", {}).get("labels", {})
    after = [prepared.get(label, 0) for label in training["labels"]] if prepared else []
    said = f"rows of each of {len(counts)} classes, {training['unlabelled']:,} rows without a label"
    names = list(training["labels"])
    ends = (f"{names[0]}: {counts[0]:,}", f"{names[-1]}: {counts[-1]:,}") if counts else ("", "")

    def draw(left: float, width: float) -> Iterator[str]:
        yield from _bars(left, width, _thinned(after), "more", max([*counts, *after, 1]))
        yield from _bars(left, width, _thinned(counts), "bar", max([*counts, *after, 1]))
        yield from _legend(left, width, said, ends)

    return draw


def _tokens(tokens: Mapping[str, Any]) -> Any:
    edges, counts = tokens["histogram"]["edges"], tokens["histogram"]["texts"]
    said = f"tokens of {tokens['texts']:,} texts, {tokens['cutShare']:.1%} of them behind the limit"

    def draw(left: float, width: float) -> Iterator[str]:
        yield from _bars(left, width, counts, "bar", max([*counts, 1]))
        limit = tokens["limit"]
        if limit and limit < edges[-1]:
            x = left + width * limit / edges[-1]
            yield f'<line class="limit" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_FLOOR}"/>'
            yield f'<text class="limittext" x="{x + 4:.1f}" y="{_TOP + 10}">limit {limit}</text>'
        yield from _legend(left, width, said, ("0", f"{edges[-1]:.0f} and more"))

    return draw


def _thinned(counts: Sequence[int]) -> list[float]:
    """Return at most sixty bars; where there are more classes, a bar is the mean of several beside each other."""
    if len(counts) <= _BARS:
        return [float(count) for count in counts]
    ends = [round(at * len(counts) / _BARS) for at in range(_BARS + 1)]
    return [sum(counts[a:b]) / (b - a) for a, b in itertools.pairwise(ends)]


def _bars(left: float, width: float, counts: Sequence[float], style: str, most: float) -> Iterator[str]:
    for at, count in enumerate(counts):
        height = (_FLOOR - _TOP) * count / most
        wide = width / len(counts)
        yield (
            f'<rect class="{style}" x="{left + at * wide:.1f}" y="{_FLOOR - height:.1f}"'
            f' width="{max(0.5, wide * 0.85):.1f}" height="{height:.1f}"/>'
        )


def _legend(left: float, width: float, said: str, ends: tuple[str, str]) -> Iterator[str]:
    yield f'<line class="axis" x1="{left:.1f}" y1="{_FLOOR}" x2="{left + width:.1f}" y2="{_FLOOR}"/>'
    yield f'<text class="soft" x="{left:.1f}" y="{_FLOOR + 16}">{escape(ends[0])}</text>'
    yield f'<text class="soft" x="{left + width:.1f}" y="{_FLOOR + 16}" text-anchor="end">{escape(ends[1])}</text>'
    yield f'<text x="{left:.1f}" y="{_FLOOR + 38}">{escape(said)}</text>'
