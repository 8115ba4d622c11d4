"""Hidden states of every token through a learned projection.

With s [batch, positions, student's width] and t [batch, positions, teacher's width] of a pair of layers, W a learned matrix
[teacher's width, student's width], and the mean over all positions that are no padding:

    `mse`: mean of ‖W·s − t‖² / teacher's width        `cosine`: mean of 1 − cos(W·s, t)

Jiao et al. 2020 (TinyBERT), arXiv:1909.10351, equation 8; the cosine as in Sanh et al. 2019 (DistilBERT), arXiv:1910.01108,
there without W for a student of the same width. `hidden` compares what is averaged over a text instead, out of a cache.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.embedding import distance
from stillhouse.passes.distill.losses.layered import LayeredTerm
from stillhouse.passes.distill.losses.term import Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["HiddenTokensLoss"]


class HiddenTokensLoss(LayeredTerm):
    """The `hidden-tokens` term."""

    traces: ClassVar[tuple[str, ...]] = ("state",)

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        """Make the projection; raises as `LayeredTerm` does."""
        super().__init__(config, sizes)
        self.projection = nn.Linear(sizes.student_hidden, sizes.teacher_width, bias=False)

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the mean distance, a float scalar."""
        mine, theirs = self.pair(student, targets, "state")
        there = student.there(mine)
        found = distance(self.projection(mine[there]), theirs[there], self.config.distance)
        return found / theirs.shape[2] if self.config.distance == "mse" else found
