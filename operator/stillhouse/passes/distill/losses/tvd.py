"""Total variation distance of softened probabilities.

With p = softmax(teacher / T) and q = softmax(student / T), logits [batch, labels] each:

    T · mean over rows of  ½ · Σ_c |p_c − q_c|

Wen et al. 2023, arXiv:2307.15190 (there for sequences). Bounded, and every unit of misplaced probability counts the same.
Multiplied by T, not T²: it is of first order in p − q, so its gradient shrinks as 1/T only. Where p_c = q_c it has a kink
and the gradient's part is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["TvdLoss"]


class TvdLoss(LossTerm):
    """The `tvd` term."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, a float scalar from 0 to T."""
        mine = torch.softmax(student.output / self.temperature, dim=1)
        theirs = torch.softmax(targets.teacher["logits"] / self.temperature, dim=1)
        return (mine - theirs).abs().sum(1).mean() * (0.5 * self.temperature)
