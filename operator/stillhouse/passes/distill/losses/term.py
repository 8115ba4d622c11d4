"""What every loss is called with and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.models.network import NetworkOutput
from stillhouse.planning.manifest import LOSSES

__all__ = ["LossTerm", "Sizes", "Targets"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths and depths that a learned projection joins; 0 where a network shows no layers."""

    student_layers: int
    student_hidden: int
    teacher_layers: int
    teacher_hidden: Mapping[int, int]
    """Teacher layer → width of its hidden states, for the layers whose states were kept."""
    teacher_width: int = 0
    teacher_heads: int = 0
    """Of a teacher that reads along: width of all its hidden states, and attention heads."""
    student_features: int = 0
    teacher_features: int = 0
    """Widths of what the networks' heads are given; 0 where no term reads that."""
    label_rows: Mapping[str, int] = field(default_factory=dict)
    """Label → rows of the training data that have it, in the order of the model's outputs; empty where no term reads labels."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What the batch is to learn: the teacher's outputs float32 by name, labels int64 [batch] (-100: none) or None.

    `groups` int64 [batch]: equal numbers for rows that belong together, -1 for a row that stands alone; None where the data
    does not say. `keys` float32 [rows, dimension]: the teacher's embeddings of other rows, drawn for this step, where a
    term wants them. Where the teacher reads along, `teacher` also has its traces, `state-3` [batch, positions, width] and so on.
    """

    teacher: Mapping[str, Tensor]
    labels: Tensor | None
    keys: Tensor | None = None
    groups: Tensor | None = None


class LossTerm(nn.Module):  # type: ignore[misc]
    """A term of the objective; its own parameters (a learned projection) are trained along and thrown away.

    `forward(student, targets)` returns a scalar, a mean over the batch's rows, without the weight.
    """

    wants_hidden = False
    wants_features = False
    """Whether it reads what the student's head is given, trace `features`."""
    wants_groups = False
    """Whether rows of one group have to be in one batch."""
    traces: ClassVar[tuple[str, ...]] = ()
    """What it reads of layers, position by position, of both networks: `state`, `query`, `key`, `value`."""
    layer: int
    """The teacher's layer that it speaks of, where it has traces."""
    depth: int | None = None
    """The student's layer that the term speaks of; None: its output."""

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.sizes = sizes
        self.temperature = config.temperature or LOSSES[config.kind].temperature

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, float32 scalar."""
        raise NotImplementedError
