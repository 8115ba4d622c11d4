"""Attention transfer: where in its input a layer is active is to be where the teacher's is.

With states of a pair of layers, s and t [batch, positions, any width], a row's map of activity is f(x)_p = Σ_c x_pc² over the
positions p that are no padding:

    mean over rows of ‖ f(s)/‖f(s)‖ − f(t)/‖f(t)‖ ‖²

Zagoruyko & Komodakis 2017, arXiv:1612.03928, equation 2 with F²_sum of equation 1 and the distance squared, which keeps the
gradient finite where the maps agree. The widths may differ, nothing is learned for it, and an image's positions are its
pixels: it joins networks of unlike kinds wherever their layers have as many positions.

It says little of layers that end in a layer normalisation (BERT and its kin): there every token is nearly as active as any
other. `attention-relation` is for those.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from stillhouse.passes.distill.losses.layered import LayeredTerm
from stillhouse.passes.distill.losses.term import Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["AttentionTransferLoss"]


class AttentionTransferLoss(LayeredTerm):
    """The `attention-transfer` term."""

    traces: ClassVar[tuple[str, ...]] = ("state",)

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, a float scalar from 0 to 2."""
        mine, theirs = self.pair(student, targets, "state")
        there = student.there(mine)
        maps = [nn.functional.normalize(states.pow(2).sum(2).masked_fill(~there, 0.0), dim=1) for states in (mine, theirs)]
        return (maps[0] - maps[1]).pow(2).sum(1).mean()
