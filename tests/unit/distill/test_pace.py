"""The time left of a long forward: with batches of the longest rows first, rows say little of it and tokens say it well."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from stillhouse.passes.distill.encoded import length_batches
from stillhouse.passes.distill.pace import Pace

SHARD = 4096


class Heard:
    """Keeps what a progress was told last."""

    def __init__(self) -> None:
        self.said: tuple[float, float | None, str, str] = (0, None, "", "")

    def update(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        self.said = (done, total, unit, message)

    def note(self, message: str) -> None:
        raise AssertionError(message)


def made_up_lengths() -> npt.NDArray[np.int64]:
    """Docstrings: most of them short, a tenth as long as the limit allows."""
    drawn = np.random.default_rng(1).lognormal(3.0, 0.9, 16_000)
    return np.clip(drawn, 4, 128).astype(np.int64)


def seconds(lengths: npt.NDArray[np.int64], batch: npt.NDArray[np.int64]) -> float:
    """What a batch costs: its padded tokens."""
    return float(len(batch) * lengths[batch].max())


def batches(lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """All batches in the order in which they are read, shard by shard."""
    every = np.arange(len(lengths), dtype=np.int64)
    return [batch for at in range(0, len(every), SHARD) for batch in length_batches(lengths, every[at : at + SHARD], 1800, 256)]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_what_is_left_is_told_nearly_right_from_the_start(share: float) -> None:
    lengths = made_up_lengths()
    costs = [seconds(lengths, batch) for batch in batches(lengths)]
    heard = Heard()
    pace = Pace(lengths, heard, "asking")
    spent, rows = 0.0, 0
    for batch, cost in zip(batches(lengths), costs, strict=True):
        pace.read(batch)
        spent, rows = spent + cost, rows + len(batch)
        if spent >= share * sum(costs):
            break
    done, total, unit, message = heard.said
    assert (unit, message) == ("tokens", "asking")
    assert total is not None and total == lengths.sum()
    assert spent / done * total == pytest.approx(sum(costs), rel=0.1)
    if share < 0.1:  # what it said before
        assert spent / rows * len(lengths) > 3 * sum(costs)


def test_all_is_read_in_the_end_also_after_an_interruption() -> None:
    lengths = made_up_lengths()
    heard = Heard()
    pace = Pace(lengths, heard, "asking")
    pace.skip(slice(0, SHARD))
    assert heard.said[0] == 0
    pace.read(np.arange(SHARD, len(lengths)))
    assert heard.said[0] == heard.said[1] == lengths.sum()


def test_images_are_counted_as_rows() -> None:
    heard = Heard()
    Pace(np.ones(7, dtype=np.int64), heard, "asking").read(np.arange(3))
    assert heard.said[:3] == (3, 7, "rows")
