"""Relational distillation, distances: the batch's rows are to lie to each other as the teacher's do, up to scale.

With d_ij = ‖x_i − x_j‖ among the rows of one side, embeddings [batch, any dimension], and μ the mean of d over pairs i ≠ j:

    mean over pairs i ≠ j of  Huber( d_ij(student) / μ(student) − d_ij(teacher) / μ(teacher) ),  δ = 1

Park, Kim, Lu & Cho 2019, arXiv:1904.05068 (distance-wise loss; there a sum over pairs).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["RelationalDistanceLoss"]


class RelationalDistanceLoss(LossTerm):
    """The `relational-distance` term."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, a float scalar; 0 for a batch of one row, which has no pairs."""
        rows = student.output
        if len(rows) < 2:
            return rows.sum() * 0.0
        return nn.functional.huber_loss(_relative(rows), _relative(targets.teacher["embedding"]))


def _relative(rows: Tensor) -> Tensor:
    """Return the distances of all ordered pairs over their mean, [pairs]."""
    # Not by way of a product: near rows would lose their digits. The gradient of equal rows is 0.
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = distances[~torch.eye(len(rows), dtype=torch.bool, device=rows.device)]
    return pairs / pairs.mean().clamp(min=1e-12)
