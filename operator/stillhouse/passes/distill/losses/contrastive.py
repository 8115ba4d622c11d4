"""Rows of one group nearer to each other than to the rest of the batch.

With S the matrix [batch, batch] of dot products between the batch's rows, unit vectors float32 [batch, dimension], and P(i) the
other rows of row i's group, by groups int64 [batch], -1 for a row that stands alone:

    mean over rows i that have partners of  mean over p in P(i) of  −log( exp(S_ip / T) / Σ_{a ≠ i} exp(S_ia / T) )

T = 0.05. For pairs this is InfoNCE with negatives from the batch (van den Oord et al. 2018, arXiv:1807.03748, equation 4,
as Gao, Yao & Chen 2021, arXiv:2104.08821, use it for sentences); several positives stand outside the logarithm as in Khosla
et al. 2020, arXiv:2004.11362, equation 2. A row of the same group is never a negative of another's term but through the
denominator, and rows without partners are negatives only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillhouse.errors import DataError
from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(LossTerm):
    """The `contrastive` term."""

    wants_groups = True

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, float32 scalar; 0 for a batch in which no row has a partner.

        Raises:
            DataError: the data does not say which rows belong together.
        """
        if targets.groups is None:
            raise DataError(
                "loss 'contrastive' needs groups",
                field="spec.distill.data.columns.group",
                found="no such column",
                fix="name it: columns: {group: YOUR_COLUMN}",
            )
        groups, rows = targets.groups, student.output
        itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        partners = (groups[:, None] == groups[None, :]) & (groups >= 0)[:, None] & ~itself
        having = partners.any(dim=1)
        if not bool(having.any()):
            return rows.sum() * 0.0
        scores = rows @ rows.T / self.temperature
        scores = scores.masked_fill(itself, -torch.inf)
        # Where the diagonal is −∞ a product with 0 would be NaN: only the partners' entries are taken.
        likely = torch.log_softmax(scores, dim=1).masked_fill(~partners, 0.0)
        each = likely.sum(dim=1)[having] / partners.sum(dim=1)[having]
        return -each.mean()
