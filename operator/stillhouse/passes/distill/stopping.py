"""Early stopping: training ends when validation no longer gains, and the best epoch is the result.

Prechelt 1998, "Early Stopping — But When?", in Neural Networks: Tricks of the Trade: the criterion is epochs without a gain in
a row (his UP with strips of one epoch). The best epoch's weights are part of every checkpoint, so a run that was killed goes on
with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import Field

from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.models.network import Network

__all__ = ["EarlyStopping", "Judge"]


class Judge(Protocol):
    """Judges a network after each epoch, more is better: by what (`metric`), on how many `rows`."""

    metric: str
    rows: int

    def __call__(self, network: Network) -> float:
        """Return the figure."""


class EarlyStopping(CamelConfig):
    """`patience`: epochs in a row without a gain of more than `min_gain` over the best, after which training ends."""

    patience: int = Field(ge=1)
    min_gain: float = Field(default=0.0, ge=0)

    def best(self, figures: Sequence[float], without: int = 0) -> int:
        """Return the best epoch (from 1) of figures of which more is better; 0 where there are none.

        The first `without` do not count.
        """
        best = 0
        for epoch, figure in enumerate(figures[without:], without + 1):
            if not best or figure > figures[best - 1] + self.min_gain:
                best = epoch
        return best

    def over(self, figures: Sequence[float], without: int = 0) -> bool:
        """Return whether to end; the first `without` figures do not count."""
        return len(figures) > without and len(figures) - self.best(figures, without) >= self.patience
