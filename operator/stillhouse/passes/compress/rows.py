"""What layers are given on calibration data: for each the products of its inputs, summed over tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from stillhouse.passes.compress.weights import Part
from stillhouse.passes.export.samples import Feed
from stillhouse.passes.export.timing import open_session

__all__ = ["products"]

_TOKENS = 512
"""Of a run: bounds the activations that are held."""
_NUMBERS = 1 << 26
"""Of the products that are held at once (512 MiB); more layers take another pass over the data."""


def products(
    model: onnx.ModelProto, layers: Sequence[Part], feeds: Sequence[Feed], threads: int, tick: Callable[[int], None]
) -> Iterator[tuple[Part, NDArray[np.float64]]]:
    """Yield (layer, Σ x·xᵀ [inputs, inputs]) of a plain graph, float64; padding is left out.

    `tick` is told after how many layers.
    """
    done = 0
    for group in _groups(layers):
        sums = _sums(model, {each.input: each.rows.shape[1] for each in group}, feeds, threads)
        for each in group:
            yield each, sums[each.input]
            done += 1
            tick(done)


def _groups(layers: Sequence[Part]) -> Iterator[list[Part]]:
    group: list[Part] = []
    held: dict[str, int] = {}
    for each in layers:
        more = 0 if each.input in held else each.rows.shape[1] ** 2
        if group and sum(held.values()) + more > _NUMBERS:
            yield group
            group, held = [], {}
        group.append(each)
        held[each.input] = each.rows.shape[1] ** 2
    if group:
        yield group


def _sums(model: onnx.ModelProto, widths: dict[str, int], feeds: Sequence[Feed], threads: int) -> dict[str, NDArray[np.float64]]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    there = {each.name for each in probe.graph.output}
    inputs = {each.name for each in probe.graph.input}
    # An output without a type: ONNX Runtime infers it.
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in widths if name not in there | inputs)
    session = open_session(probe.SerializeToString(), threads)
    sums = {name: np.zeros((width, width)) for name, width in widths.items()}
    names = [name for name in widths if name not in inputs]
    for feed in feeds:
        for part in _short(feed):
            found: dict[str, Any] = dict(zip(names, session.run(names, part), strict=True)) | {
                name: part[name] for name in widths if name in inputs
            }
            for name, values in found.items():
                rows = _without_padding(values, part).astype(np.float32)
                sums[name] += (rows.T @ rows).astype(np.float64)
    return sums


def _short(feed: Feed) -> Iterator[Feed]:
    """Cut a feed into some of fewer rows each, where its texts are long."""
    shape = next(iter(feed.values())).shape
    step = max(1, _TOKENS // shape[1]) if len(shape) == 2 else shape[0]
    for start in range(0, shape[0], step):
        yield {name: values[start : start + step] for name, values in feed.items()}


def _without_padding(values: NDArray[np.float32], feed: Feed) -> NDArray[np.float32]:
    mask = feed.get("attention_mask")
    if mask is not None and values.ndim == 3 and values.shape[:2] == mask.shape:
        kept: NDArray[np.float32] = values[mask.astype(bool)]
        return kept
    return values.reshape(-1, values.shape[-1])
