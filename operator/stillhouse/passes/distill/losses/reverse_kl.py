"""Reverse Kullback-Leibler divergence of softened probabilities.

With p = softmax(teacher / T) and q = softmax(student / T), logits [batch, labels] each:

    T² · mean over rows of  Σ_c q_c · (log q_c − log p_c)

It punishes a student for likelihood where the teacher sees none, so the student keeps to the teacher's peaks; `logits`
(forward KL) punishes it for missing any. Gu et al. 2023 (MiniLLM), arXiv:2306.08543, for language models; the family of
divergences in Wen et al. 2023, arXiv:2307.15190. T² as in Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2: the
gradient shrinks as 1/T² here as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["ReverseKlLoss"]


class ReverseKlLoss(LossTerm):
    """The `reverse-kl` term."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, a float scalar ≥ 0."""
        mine = torch.log_softmax(student.output / self.temperature, dim=1)
        theirs = torch.log_softmax(targets.teacher["logits"] / self.temperature, dim=1)
        return (mine.exp() * (mine - theirs)).sum(1).mean() * self.temperature**2
