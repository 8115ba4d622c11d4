"""Within which range an activation is rounded, read off calibration rows.

- `minmax`: all that was seen.
- `percentile`: all but the rarest values on either side. Activations of transformers have a few numbers that are tens of times
  larger than the rest; whoever keeps them in range rounds all others to nothing.
- `entropy`: the range whose rounded histogram tells most of the true one (smallest Kullback-Leibler divergence; S. Migacz, 8-bit
  Inference with TensorRT, GTC 2017).

The rows run twice: extremes first, then histograms between them. So nothing but the counts is kept, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from stillhouse.errors import SourceError
from stillhouse.passes.export.samples import Feed
from stillhouse.passes.export.timing import open_session

__all__ = ["UINT8_STEPS", "Extremes", "Method", "Range", "demand_finite", "extremes", "extremes_of", "ranges", "ranges_of"]

Method = Literal["minmax", "percentile", "entropy"]
Floats = NDArray[np.float64]
Values = Mapping[str, NDArray[np.float32]]
"""What tensors are in a run, by name."""

UINT8_STEPS = 255
"""Between the lowest and the highest number of UINT8."""
BINS = 2048
LEVELS = 128
"""Of one side of zero: what is rounded to 8 bits has 255 or 256 on both."""
_STEP = 16
_TINY = 1e-6
"""A range that is narrower is widened to it: of zeros alone there is no scale."""


@dataclass(frozen=True, slots=True)
class Range:
    """Lowest and highest value that is told apart; 0 lies between, because padding must round to 0."""

    low: float
    high: float

    @property
    def rounding(self) -> tuple[float, int]:
        """Return the scale, a float32, and the zero point with which UINT8 tells it apart."""
        scale = float(np.float32((self.high - self.low) / UINT8_STEPS))
        return scale, min(max(round(-self.low / scale), 0), UINT8_STEPS)


@dataclass(slots=True)
class Extremes:
    """What was seen of a tensor: its lowest and highest value, and each channel's largest magnitude.

    `channels`, float64: of the last axis, of images the second.
    """

    low: float
    high: float
    channels: Floats


def extremes(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Sequence[Feed], threads: int, tick: Callable[[int], None]
) -> dict[str, Extremes]:
    """Run every feed and return the extremes of these float tensors; `tick` is told how many feeds are done.

    Raises:
        SourceError: a tensor is not finite.
    """
    return extremes_of(_runs(model, tensors, feeds, threads, tick))


def extremes_of(runs: Iterable[Values]) -> dict[str, Extremes]:
    """Return the extremes of tensors over some runs."""
    found: dict[str, Extremes] = {}
    for values in runs:
        for name, value in values.items():
            low, high = float(value.min(initial=0.0)), float(value.max(initial=0.0))
            axis = 1 if value.ndim == 4 else value.ndim - 1
            peaks = np.abs(value).max(axis=tuple(each for each in range(value.ndim) if each != axis), initial=0.0)
            known = found.setdefault(name, Extremes(low, high, np.zeros(peaks.shape)))
            known.low, known.high = min(known.low, low), max(known.high, high)
            known.channels = np.maximum(known.channels, peaks)
    return found


def ranges(
    model: onnx.ModelProto,
    seen: Mapping[str, Extremes],
    feeds: Sequence[Feed],
    method: Method,
    percentile: float,
    threads: int,
    tick: Callable[[int], None],
) -> dict[str, Range]:
    """Return the range of every tensor in `seen`. `percentile`, 50 to 100: of `percentile`, how much of the values lies below."""
    return ranges_of(seen, _runs(model, list(seen), feeds, threads, tick), method, percentile)


def ranges_of(seen: Mapping[str, Extremes], runs: Iterable[Values], method: Method, percentile: float) -> dict[str, Range]:
    """Return the range of every tensor in `seen`; `minmax` asks for none of the runs."""
    whole = {name: _wide(each.low, each.high) for name, each in seen.items()}
    if method == "minmax":
        return whole
    counts = {name: np.zeros(BINS) for name in seen}
    for values in runs:
        for name, value in values.items():
            counts[name] += np.histogram(value, BINS, (whole[name].low, whole[name].high))[0]
    clip = _percentile if method == "percentile" else _entropy
    return {name: clip(counts[name], np.linspace(each.low, each.high, BINS + 1), percentile) for name, each in whole.items()}


def _runs(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Sequence[Feed], threads: int, tick: Callable[[int], None]
) -> Iterable[dict[str, NDArray[np.float32]]]:
    """Yield what these tensors are, feed by feed.

    Raises:
        SourceError: one is not finite.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {value.name for value in model.graph.input}
    inner = [name for name in tensors if name not in given]
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
    session = open_session(copy.SerializeToString(), threads) if inner else None
    for number, feed in enumerate(feeds):
        made = session.run(inner, feed) if session else []
        values = dict(zip(inner, made, strict=True)) | {name: feed[name] for name in tensors if name in given}
        demand_finite(values, number + 1)
        yield values
        tick(number + 1)


def demand_finite(values: Values, row: int) -> None:
    """Look at what was seen on calibration row `row`, from 1.

    Raises:
        SourceError: a number is not finite.
    """
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise SourceError(
                "an activation is not finite: no range can be told of it",
                field="data.uri",
                found=f"{name} in calibration row {row}",
                allowed="finite numbers",
                fix="look at these rows; the FP32 model overflows on them",
            )


def _wide(low: float, high: float) -> Range:
    low, high = min(low, 0.0), max(high, 0.0)
    return Range(low, max(high, low + _TINY))


def _percentile(counts: Floats, edges: Floats, percentile: float) -> Range:
    """Return the range that leaves out 1 - `percentile` % of the values on either side."""
    share = np.cumsum(counts) / max(counts.sum(), 1.0)
    rare = 1.0 - percentile / 100.0
    first = int(np.searchsorted(share, rare, side="right"))
    last = int(np.searchsorted(share, 1.0 - rare, side="left"))
    return _wide(float(edges[min(first, BINS - 1)]), float(edges[min(last, BINS - 1) + 1]))


def _entropy(counts: Floats, edges: Floats, percentile: float) -> Range:
    """Return the range, cut at one magnitude on both sides of zero, whose rounded histogram diverges least from the true one."""
    peak = max(-edges[0], edges[-1])
    middles = np.abs((edges[:-1] + edges[1:]) / 2)
    magnitudes = np.histogram(middles, BINS, (0.0, peak), weights=counts)[0]
    magnitudes[0] = magnitudes[1]  # exact zeros (padding, ReLU) round to 0 in any range
    best, cut = np.inf, BINS
    for end in range(LEVELS, BINS + 1, _STEP):
        kept = magnitudes[:end].copy()
        kept[-1] += magnitudes[end:].sum()
        divergence = _divergence(kept, magnitudes[:end])
        if divergence < best:
            best, cut = divergence, end
    most = peak * cut / BINS
    return _wide(max(float(edges[0]), -most), min(float(edges[-1]), most))


def _divergence(true: Floats, inside: Floats) -> float:
    """Return KL(true ‖ inside rounded to `LEVELS`) in nats; a level's count is shared among its bins that have any."""
    level = np.arange(len(inside)) * LEVELS // len(inside)
    some = inside > 0
    total, bins = np.bincount(level, inside, LEVELS), np.bincount(level, some, LEVELS)
    rounded = np.where(some, (total / np.maximum(bins, 1.0))[level], 0.0)
    p, q = true / max(true.sum(), 1.0), rounded / max(rounded.sum(), 1.0)
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-12))).sum())
