"""Jensen-Shannon divergence of softened probabilities.

With p = softmax(teacher / T), q = softmax(student / T), logits [batch, labels] each, and m = (p + q) / 2:

    T² · mean over rows of  ½ · Σ_c p_c · log(p_c / m_c)  +  ½ · Σ_c q_c · log(q_c / m_c)

Symmetric, and without T² at most ln 2 however far apart the two are: one row on which the teacher is wrong and sure
cannot rule a batch. Lin 1991, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory
37(1), with equal weights; for distillation Agarwal et al. 2023 (GKD), arXiv:2306.13649, and Wen et al. 2023,
arXiv:2307.15190. Near agreement its gradient is a quarter of forward KL's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["JsdLoss"]


class JsdLoss(LossTerm):
    """The `jsd` term."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, a float scalar from 0 to T²·ln 2."""
        mine = torch.log_softmax(student.output / self.temperature, dim=1)
        theirs = torch.log_softmax(targets.teacher["logits"] / self.temperature, dim=1)
        # In logarithms: a probability that is 0 in float32 must not become log 0.
        between = torch.logaddexp(mine, theirs) - math.log(2.0)
        rows = (theirs.exp() * (theirs - between) + mine.exp() * (mine - between)).sum(1)
        return rows.mean() * (0.5 * self.temperature**2)
