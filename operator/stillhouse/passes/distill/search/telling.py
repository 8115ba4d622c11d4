"""What is told of a search: the front as a table and all shapes as a picture, or what came nearest to the limits. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stillhouse.errors import SpecError
from stillhouse.passes.distill.search.shapes import Limits, Tried, feasible, front, nearest, words
from stillhouse.passes.picture import Axis, Point, scatter
from stillhouse.sizes import size

__all__ = ["infeasible", "picture", "table"]


def table(tried: Sequence[Tried], taken: Tried, limits: Limits, metric: str) -> list[str]:
    """Return the front within the limits as lines, the fastest first; `metric`: what quality is measured in."""
    within = feasible(tried, limits)
    best = front(within)
    rows = [("shape", metric, "a text", "size", "multiply-accumulates", "")]
    for each in best:
        figures = (f"{each.rank:.4f}", f"{each.latency * 1e3:.2f} ms", size(each.size), f"{each.macs:,}")
        rows.append((each.name, *figures, "taken" if each is taken else ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers, mark in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=False)]
        lines.append("  ".join([f"{name:<{widths[0]}}", *cells, mark]).rstrip())
    kept = "" if limits == Limits() else f", {len(within)} within the limits"
    return [*lines, f"{len(best)} that no other beats in both {metric} and time; {len(tried)} tried{kept}"]


def picture(tried: Sequence[Tried], taken: Tried, limits: Limits, metric: str) -> str:
    """Return every shape that was trained as an SVG document, by latency and quality."""
    best = front(feasible(tried, limits))
    trained = [each for each in tried if each.quality is not None]
    points = [
        Point(
            "-".join(str(value) for value in each.shape.values()),
            each.latency,
            each.rank,
            "taken" if each is taken else "passed" if each in best else "missed",
        )
        for each in trained
    ]
    axes = Axis(lambda value: f"{value * 1e3:.2f} ms"), Axis(lambda value: f"{value:.3f}", logarithmic=False)
    below = f"{metric} over the median latency of a text; full: the front within the limits; green: taken"
    if len(trained) < len(tried):
        below += f"; beyond the limits, not trained: {len(tried) - len(trained)}"
    return scatter(points, *axes, "Shapes that were trained", below)


def infeasible(tried: Sequence[Tried], limits: Limits, metric: str, patience: int | None) -> SpecError:
    """Return what is told where no shape keeps the limits. `patience`: that of the search where it ended by it, else None."""
    near = nearest(tried, limits)
    wanted = [f"maxSize {size(limits.size)}"] if limits.size is not None else []
    wanted += [f"maxLatencyP50 {limits.latency * 1e3:g} ms"] if limits.latency is not None else []
    raised = [f"maxSize: {math.ceil(near.size / 1024)}Ki"] if limits.size is not None and near.size > limits.size else []
    if limits.latency is not None and near.latency > limits.latency:
        # A tenth more, because the next search measures again; in hundredths of a millisecond.
        raised.append(f"maxLatencyP50: {math.ceil(round(near.latency * 1.1e5, 6)) / 100:g}ms")
    return SpecError(
        "no shape that was tried keeps the limits",
        field="spec.distill.search",
        found=f"the nearest of {len(tried)}: {words(near, metric)}",
        allowed=", ".join(wanted),
        fix=(f"write {', '.join(raised)}, which it keeps, or " if raised else "")
        + "search among smaller shapes (hiddenLayers, hiddenSize, vocabulary)"
        + ("" if patience is None else f", or raise patience: {patience} in a row came no nearer"),
    )
