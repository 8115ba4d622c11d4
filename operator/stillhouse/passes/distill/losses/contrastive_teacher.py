"""Each row nearer to the teacher's embedding of itself than to the teacher's embeddings of other rows.

With unit vectors s_i (student) and t_j (teacher), [batch, dimension] each, and C the batch's rows and, with `keys`, rows
drawn from all of the data:

    mean over rows i of  −log( exp(⟨s_i, t_i⟩ / T) / Σ_{j in C} exp(⟨s_i, t_j⟩ / T) )

T = 0.05. Contrastive representation distillation: Tian, Krishnan & Isola 2020, arXiv:1910.10699, which bounds from below
what student and teacher have in common; here by InfoNCE (van den Oord et al. 2018, arXiv:1807.03748, equation 4), where the
batch and the keys stand in for their memory bank. `contrastive` asks the data which rows belong together and the teacher
nothing; this term asks the teacher alone. It is 0 for no student: neighbours stay in the sum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["ContrastiveTeacherLoss"]


class ContrastiveTeacherLoss(LossTerm):
    """The `contrastive-teacher` term."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, a float scalar ≥ 0."""
        candidates = targets.teacher["embedding"]
        if targets.keys is not None and self.config.keys:
            candidates = torch.cat([candidates, targets.keys[: self.config.keys]])
        mine = nn.functional.normalize(student.output, dim=1)
        scores = mine @ nn.functional.normalize(candidates, dim=1).T / self.temperature
        return nn.functional.cross_entropy(scores, torch.arange(len(mine), device=mine.device))
