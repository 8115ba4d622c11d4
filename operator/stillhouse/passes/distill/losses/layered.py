"""The base of terms that hold a layer of the student's against one of the teacher's, position by position."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from stillhouse.errors import SpecError
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.term import LossTerm, Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["LayeredTerm", "chosen_layers", "student_layer"]


class LayeredTerm(LossTerm):
    """A term of a pair of layers: `layer` of the teacher's, `depth` of the student's. `traces` is what it reads of both."""

    traces: ClassVar[tuple[str, ...]]

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        """Choose the layers.

        Raises:
            SpecError: one of the networks does not have its layer.
        """
        super().__init__(config, sizes)
        self.layer, self.depth = chosen_layers(config, sizes)

    def pair(self, student: NetworkOutput, targets: Targets, what: str) -> tuple[Tensor, Tensor]:
        """Return the student's and the teacher's trace, float [batch, positions, width] each.

        Raises:
            SpecError: they do not have the same positions.
        """
        mine, theirs = student.traces[f"{what}-{self.depth}"], targets.teacher[f"{what}-{self.layer}"]
        if mine.shape[1] != theirs.shape[1]:
            raise SpecError(
                f"loss '{self.config.kind}' needs layers with the same positions on both sides",
                field="spec.distill.stages[].losses[].layers",
                found=f"{mine.shape[1]} positions in layer {self.depth} of the student, {theirs.shape[1]} in layer {self.layer}"
                " of the teacher",
                allowed="layers of as many positions",
                fix="pair other layers, or take loss hidden, which averages over positions",
            )
        return mine, theirs


def chosen_layers(config: LossConfig, sizes: Sizes) -> tuple[int, int]:
    """Return the pair (teacher's layer, student's layer); what is not named is the last one, or at the same relative depth.

    Raises:
        SpecError: there is no such layer.
    """
    layer = sizes.teacher_layers if config.layer is None else config.layer
    own = config.student_layer
    for who, number, most in (("teacher", layer, sizes.teacher_layers), ("student", own, sizes.student_layers)):
        if not most or (number is not None and number > most):
            raise SpecError(
                f"loss '{config.kind}' speaks of a layer that the {who} does not have" if most else f"the {who} shows no layers",
                field="spec.distill.stages[].losses[].layers",
                found=f"layer {number} of the {who}" if number is not None else "a layer of the student",
                allowed=f"1 to {most}" if most else "none: such a network has no layers to be held against another's",
                fix="name layers that both networks have" if most else "take loss pooled, which needs no layers",
            )
    return layer, own or student_layer(layer, sizes.teacher_layers, sizes.student_layers)


def student_layer(layer: int, teacher_layers: int, student_layers: int) -> int:
    """Return the student's layer at the same relative depth, at least 1 (0 stays 0: the embeddings)."""
    if layer == 0:
        return 0
    return max(1, round(layer / teacher_layers * student_layers))
