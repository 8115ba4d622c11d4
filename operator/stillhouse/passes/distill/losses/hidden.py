"""Pooled hidden states through a learned projection.

With s float32 [batch, student's width] and t float32 [batch, teacher's width], the states of a pair of layers averaged over all
positions that are no padding, and W a learned matrix [teacher's width, student's width]:

    `cosine` (the default): mean over rows of 1 − cos(W·s, t)        `mse`: mean over rows of ‖W·s − t‖² / teacher's width

Romero et al. 2015 (FitNets), arXiv:1412.6550, equation 3 (a regressor from the student's to the teacher's width), as in
TinyBERT, Jiao et al. 2020, arXiv:1909.10351, equation 8, here on averages: student and teacher may cut a text into different
tokens. `hidden-tokens` compares every token.
"""

from __future__ import annotations

from torch import Tensor, nn

from stillhouse.errors import SpecError
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.embedding import distance
from stillhouse.passes.distill.losses.layered import chosen_layers
from stillhouse.passes.distill.losses.term import LossTerm, Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["HiddenLoss"]


class HiddenLoss(LossTerm):
    """The `hidden` term: teacher layer `layer` (the last one when left out) against the student's layer at that depth."""

    wants_hidden = True

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        """Make the projection.

        Raises:
            SpecError: a network shows no layers, or this layer's states were not kept.
        """
        super().__init__(config, sizes)
        layer = sizes.teacher_layers if config.layer is None else config.layer
        if sizes.student_layers < 1 or layer not in sizes.teacher_hidden:
            raise SpecError(
                "loss 'hidden' needs hidden states on both sides",
                field="spec.distill.stages[].losses[].layer",
                found=f"layer {layer}, student with {sizes.student_layers} layers",
                allowed=f"teacher layers {sorted(sizes.teacher_hidden) or 'none'}",
                fix="choose a layer that the teacher has, or loss pooled, which needs no layers",
            )
        self.layer, self.own = chosen_layers(config, sizes)
        self.depth = self.own
        self.projection = nn.Linear(sizes.student_hidden, sizes.teacher_hidden[layer], bias=False)

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the mean distance, float32 scalar."""
        target = targets.teacher[f"hidden-{self.layer}"]
        found = distance(self.projection(student.hidden[self.own]), target, self.config.distance)
        # Hidden states are not of unit length: per number, so that the term does not grow with the teacher's width.
        return found / target.shape[1] if self.config.distance == "mse" else found
