"""Relations among a text's tokens inside self-attention, the teacher's and the student's: the base of two terms.

With vectors a and b [batch, positions, width] of one layer, cut into r relation heads of d = width / r numbers each, and
the softmax over positions j that are no padding:

    R_hij = softmax_j( ⟨a_hi, b_hj⟩ / √d )
    mean over rows, heads and positions i (no padding) of  KL( R(teacher)_hi ‖ R(student)_hi )

Wang et al. 2020 (MiniLM), arXiv:2002.10957; relation heads, which free the student from the teacher's number of attention
heads, and the choice of a layer: Wang et al. 2021 (MiniLMv2), arXiv:2012.15828. r is the largest number up to the teacher's
attention heads that divides both widths.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stillhouse.errors import SpecError
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.layered import LayeredTerm
from stillhouse.passes.distill.losses.term import Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["RelationTerm", "relation_heads"]


class RelationTerm(LayeredTerm):
    """`traces` are a and b; once where they are the same."""

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        """Choose layers and relation heads; raises as `LayeredTerm` does."""
        super().__init__(config, sizes)
        self.heads = relation_heads(sizes)

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, a float scalar ≥ 0."""
        pairs = [self.pair(student, targets, what) for what in (self.traces[0], self.traces[-1])]
        there = student.there(pairs[0][0])
        mine, theirs = (self._relations(pairs[0][side], pairs[1][side], there) for side in (0, 1))
        # Of padded keys both logarithms are −∞: they are left out before the difference is taken.
        keys = there[:, None, None, :]
        rows = (theirs.exp() * (theirs.masked_fill(~keys, 0.0) - mine.masked_fill(~keys, 0.0))).sum(3).mean(1)
        each = rows.masked_fill(~there, 0.0).sum(1) / there.sum(1).clamp(min=1)
        return each.mean()

    def _relations(self, a: Tensor, b: Tensor, there: Tensor) -> Tensor:
        """Return log R, [batch, heads, positions, positions].

        Raises:
            SpecError: an earlier stage has pruned the layer to a width that the heads do not divide.
        """
        for each in (a, b):
            if each.shape[2] % self.heads:
                raise SpecError(
                    "the student's layer has lost heads, and its queries, keys and values cannot be compared any more",
                    field="spec.distill.stages[].losses",
                    found=f"a width of {each.shape[2]}, {self.heads} relation heads",
                    allowed="losses of relations in stages that come before heads are pruned, or in that stage",
                    fix="take another loss: hidden, hidden-tokens or attention-transfer",
                )
        left, right = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (a, b))
        scores = left @ right.transpose(2, 3) / math.sqrt(left.shape[3])
        return torch.log_softmax(scores.masked_fill(~there[:, None, None, :], -torch.inf), dim=3)


def relation_heads(sizes: Sizes) -> int:
    """Return the largest number up to the teacher's attention heads that divides both widths."""
    both = math.gcd(sizes.teacher_width, sizes.student_hidden)
    return next((heads for heads in range(max(1, sizes.teacher_heads), 0, -1) if both % heads == 0), 1)
