"""How far a forward over many rows is: counted in what it costs, not in rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from stillhouse.passes.base import Progress

__all__ = ["Pace"]


class Pace:
    """Tells a progress how much of the rows is read, in tokens; in rows where all are of one length, as images are.

    The longest rows come first, in every shard anew (`rows.length_batches`), and a row of 128 tokens costs what twenty short
    ones do: time left by rows was ten times what it became.
    """

    def __init__(self, lengths: npt.NDArray[np.int64], progress: Progress, message: str) -> None:
        """Count towards all of `lengths`, int64 [rows], the tokens of each."""
        self._lengths = lengths
        self._progress = progress
        self._message = message
        self._unit = "tokens" if len(lengths) and int(lengths.max()) > 1 else "rows"
        self._total = int(lengths.sum())
        self.done = 0

    def skip(self, rows: npt.NDArray[np.int64] | slice) -> None:
        """Count rows that an earlier attempt has read, without a word."""
        self.done += int(self._lengths[rows].sum())

    def read(self, rows: npt.NDArray[np.int64] | slice) -> None:
        """Count rows that have just been read."""
        self.skip(rows)
        self._progress.update(self.done, self._total, self._unit, self._message)
