"""Relational distillation, angles: the batch's rows are to form the angles that the teacher's form.

With e_ij = (x_i − x_j) / ‖x_i − x_j‖ among the rows of one side, embeddings [batch, any dimension], and the cosine of the
angle at j, ψ_ijk = ⟨e_ij, e_kj⟩:

    mean over triplets of different rows i, j, k of  Huber( ψ_ijk(student) − ψ_ijk(teacher) ),  δ = 1

Park, Kim, Lu & Cho 2019, arXiv:1904.05068 (angle-wise loss; there a sum over triplets). Neither scale nor rotation of an
embedding matters. Triplets grow with the third power of the rows, so a batch is cut into groups of at most 128 rows, as
even as can be, and the groups' means are averaged. Of two rows that are equal, no direction: their angles count as 0.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["MOST_ROWS", "RelationalAngleLoss"]

MOST_ROWS: Final = 128
"""Rows of a group: 2 million triplets, 8 MB."""
_TINY: Final = 1e-12


class RelationalAngleLoss(LossTerm):
    """The `relational-angle` term."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, a float scalar; 0 for a batch of fewer than three rows, which has no triplets."""
        mine, theirs = student.output, targets.teacher["embedding"]
        if len(mine) < 3:
            return mine.sum() * 0.0
        groups = -(-len(mine) // MOST_ROWS)
        parts = [_group(a, b) for a, b in zip(mine.tensor_split(groups), theirs.tensor_split(groups), strict=True)]
        return torch.stack(parts).mean()


def _group(mine: Tensor, theirs: Tensor) -> Tensor:
    """Return the mean over the triplets of one group."""
    itself = torch.eye(len(mine), dtype=torch.bool, device=mine.device)
    different = ~(itself[:, :, None] | itself[:, None, :] | itself[None, :, :])
    return nn.functional.huber_loss(_angles(mine)[different], _angles(theirs)[different])


def _angles(rows: Tensor) -> Tensor:
    """Return cosines [rows j, rows i, rows k] of the angles at j."""
    away = rows[None, :, :] - rows[:, None, :]
    squared = away.pow(2).sum(2, keepdim=True)
    there = squared > _TINY
    # The inner where() keeps the root's gradient finite, the outer one makes it 0: no row pulls at its equal.
    directions = away * torch.where(there, torch.where(there, squared, 1.0).rsqrt(), 0.0)
    return directions @ directions.transpose(1, 2)
