"""Soft and hard targets.

With p = softmax(teacher / T) and q = softmax(student / T), logits float32 [batch, labels] each, and labels int64 [batch], -100
for none:

    α · T² · mean over rows of  Σ_c p_c · (log p_c − log q_c)   +   (1 − α) · mean over rows of the cross-entropy at T = 1

A row without a label adds 0 to the second sum (`cross_entropy.py`). Hinton, Vinyals & Dean 2015, arXiv:1503.02531: softened
probabilities (equation 1); gradients of the soft part shrink as 1/T² (equation 4), so it is multiplied by T², which keeps the
two parts in proportion when T is changed (section 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.cross_entropy import CrossEntropy
from stillhouse.passes.distill.losses.term import LossTerm, Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["LogitsLoss", "soft_targets"]


class LogitsLoss(LossTerm):
    """The `logits` term. Rows without a label contribute the soft part alone."""

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.cross_entropy = CrossEntropy(config, sizes)

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, float32 scalar."""
        temperature, alpha = self.temperature, self.config.alpha
        total = alpha * soft_targets(student.output, targets.teacher["logits"], temperature)
        if targets.labels is not None and alpha < 1.0:
            # By all rows, not the labelled ones: a batch in which one row of 128 has a label must not give that row the
            # weight of the whole batch. With every row labelled it is the usual mean.
            hard = self.cross_entropy(student.output, targets.labels) / max(1, len(targets.labels))
            total = total + (1.0 - alpha) * hard
        return total


def soft_targets(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """Return T²·KL(softmax(teacher/T) ‖ softmax(student/T)), the mean over rows, or over tokens that `mask` keeps.

    Args:
        student: float32 [..., labels] logits.
        teacher: float32 [..., labels] logits.
        temperature: T > 0.
        mask: [...], 1 for what counts and 0 for padding; None: everything counts.
    """
    rows = nn.functional.kl_div(
        torch.log_softmax(student / temperature, dim=-1),
        torch.log_softmax(teacher / temperature, dim=-1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    if mask is None:
        return rows.mean() * temperature**2
    kept = mask.to(rows.dtype)
    # where(), not a product: 0 · NaN of a padded position would still be NaN.
    return torch.where(mask.bool(), rows, 0.0).sum() / torch.clamp(kept.sum(), min=1.0) * temperature**2
