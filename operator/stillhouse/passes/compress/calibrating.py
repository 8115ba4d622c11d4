"""What static quantization reads off calibration rows: ranges of activations, and before them what is balanced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, PassConfig
from stillhouse.passes.compress.feeds import calibration_feeds
from stillhouse.passes.compress.ranges import Method, Range, extremes, ranges
from stillhouse.passes.compress.smooth import balance, balanceable
from stillhouse.passes.compress.static_graph import watched
from stillhouse.passes.export.parity import measure_parity
from stillhouse.passes.export.samples import Feed, parity_feeds
from stillhouse.passes.export.timing import open_session
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = ["Calibrated", "RoundingConfig", "StaticConfig", "calibrate"]

_PARITY_ROWS = 12


class StaticConfig(PassConfig):
    """How ranges are found: `percentile` (50 to 100) counts where `ranges` says so; `balance` is SmoothQuant's alpha, 0: none."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    ranges: Method = "minmax"
    percentile: float = Field(default=99.999, ge=50, le=100)
    balance: float = Field(default=0.5, ge=0, le=1)


class RoundingConfig(StaticConfig):
    """How numbers are rounded within them: rows that are read at most, 7-bit weights."""

    samples: int = Field(default=128, ge=1, le=100_000)
    reduce_range: bool = False


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A graph that gives what the given one gives, its activations' ranges, which of them were balanced, and on how many rows."""

    model: onnx.ModelProto
    ranges: dict[str, Range]
    balanced: tuple[str, ...]
    rows: int


def calibrate(
    source: Path,
    signature: Signature,
    model: onnx.ModelProto,
    data: Artifact,
    config: StaticConfig,
    samples: int,
    threads: int,
    tick: Callable[[int, int], None],
) -> Calibrated:
    """Balance `model`, read from `source`, and find the ranges of its activations on rows of `data`.

    `tick` is told how many rows are done, and of how many. They run one by one: no padding is counted, and every activation of a
    batch of images would be much to hold.

    Raises:
        DataError: the rows cannot calibrate, or are not what the model takes.
        SourceError: an activation is not finite.
    """
    feeds = calibration_feeds(source, signature, data, samples, batch=1, spread=True)
    passes = (2 if config.balance else 1) + (config.ranges != "minmax")
    done = 0

    def told(number: int) -> None:
        tick(done + number, passes * len(feeds))

    balanced: tuple[str, ...] = ()
    if config.balance and balanceable(model):
        seen = extremes(model, balanceable(model), feeds, threads, told)
        done += len(feeds)
        rewritten, balanced = balance(model, seen, config.balance)
        _refuse_changed(source, signature, rewritten, threads)
        model = rewritten
    seen = extremes(model, watched(model), feeds, threads, told)
    done += len(feeds)
    found = ranges(model, seen, feeds, config.ranges, config.percentile, threads, told)
    return Calibrated(model, found, balanced, sum(len(next(iter(feed.values()))) for feed in feeds))


def _refuse_changed(source: Path, signature: Signature, model: onnx.ModelProto, threads: int) -> None:
    """Hold the balanced graph against the one that was given.

    Raises:
        SourceError: they differ.
    """
    reference: Any = open_session(source / "model.onnx", threads)

    def expected(feed: Feed) -> NDArray[np.float32]:
        output: NDArray[np.float32] = reference.run(None, feed)[0]
        return output

    rows: Sequence[Feed] = list(parity_feeds(signature, _PARITY_ROWS, vocabulary_rows(source)))
    parity = measure_parity(open_session(model.SerializeToString(), threads), expected, rows)
    if not parity.holds:
        raise SourceError(
            "balancing changed what the FP32 model gives",
            field="spec.compress.int8.balance",
            found=f"a difference of {parity.max_abs_error:.2g}, cosine {parity.min_cosine:.6f}",
            allowed="the same answers",
            fix='write balance: "0"',
        )
