"""Pooled features through a learned projection: for networks of unlike kinds, which have no layers in common.

With s [batch, student's width] and t [batch, teacher's width], what the last linear layer of each network is given (of a
convolutional network its averages over all positions), and W a learned matrix [teacher's width, student's width]:

    `mse`: mean over rows of ‖W·s − t‖² / teacher's width        `cosine`: mean over rows of 1 − cos(W·s, t)

The regressor is that of Romero et al. 2015 (FitNets), arXiv:1412.6550, equation 3; the features before the head, for teachers
and students of different architectures, as in Tian, Krishnan & Isola 2020, arXiv:1910.10699, section 3.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.embedding import distance
from stillhouse.passes.distill.losses.term import LossTerm, Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["FEATURES", "PooledLoss"]

FEATURES: Final = "features"
"""What the teacher's output and the student's trace are called."""


class PooledLoss(LossTerm):
    """The `pooled` term."""

    wants_features = True

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        """Make the projection."""
        super().__init__(config, sizes)
        self.projection = nn.Linear(sizes.student_features, sizes.teacher_features, bias=False)

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the mean distance, a float scalar."""
        target = targets.teacher[FEATURES]
        found = distance(self.projection(student.traces[FEATURES]), target, self.config.distance)
        return found / target.shape[1] if self.config.distance == "mse" else found
