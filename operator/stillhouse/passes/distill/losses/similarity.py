"""The teacher's similarities inside the batch.

With S = student's and R = teacher's matrix [batch, batch] of dot products between the batch's rows, unit vectors float32
[batch, dimension] of each side, the diagonal left out:

`cosine` (the default): mean over rows i of KL( softmax(R_i / T) ‖ softmax(S_i / T) ), T = 0.05. Distributions of
similarity: Fang et al. 2021 (SEED), arXiv:2101.04731, equation 4, with the batch in place of a queue. A small T makes
the nearest rows count, which is what search is judged by. With `keys` as in SEED: S = the student's, R = the teacher's
dot products with the *teacher's* embeddings of the batch's other rows and of rows drawn from all of the data, float32 [rows,
dimension], both [batch, batch − 1 + keys]. A batch is of texts of like lengths; search compares short with long ones.
`mse`: mean over pairs of (S_ij − R_ij)². Tung & Mori 2019, arXiv:1907.09682, equation 4, without their row norm: the
vectors are of unit length already.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["SimilarityLoss"]


class SimilarityLoss(LossTerm):
    """The `similarity` term."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, float32 scalar; 0 for a batch of one row, which has no pairs."""
        mine, theirs = student.output, targets.teacher["embedding"]
        rows = len(mine)
        if rows < 2:
            return mine.sum() * 0.0
        if targets.keys is not None and self.config.keys:
            keys = targets.keys[: self.config.keys]
            ours = torch.cat([_pairs(mine, theirs), mine @ keys.T], dim=1)
            wanted = torch.cat([_pairs(theirs, theirs), theirs @ keys.T], dim=1)
        else:
            ours, wanted = _pairs(mine, mine), _pairs(theirs, theirs)
        if self.config.distance == "mse":
            return (ours - wanted).pow(2).mean()
        return nn.functional.kl_div(
            torch.log_softmax(ours / self.temperature, dim=1),
            torch.log_softmax(wanted / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )


def _pairs(vectors: Tensor, others: Tensor) -> Tensor:
    """Return dot products of each row with `others` but its own, [rows, rows − 1]: the matrix without its diagonal."""
    rows = len(vectors)
    matrix = vectors @ others.T
    # Cutting the flattened matrix behind each diagonal element moves the diagonal into one column.
    return matrix.flatten()[1:].view(rows - 1, rows + 1)[:, :-1].reshape(rows, rows - 1)
