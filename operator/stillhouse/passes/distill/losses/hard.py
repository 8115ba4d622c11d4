"""Cross-entropy with the labels alone: the second stage after soft targets, and the control without a teacher."""

from __future__ import annotations

from torch import Tensor, nn

from stillhouse.errors import DataError
from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["HardLoss"]


class HardLoss(LossTerm):
    """The `hard` term: mean cross-entropy over the rows that have a label; 0 for a batch without any."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the term, float32 scalar.

        Raises:
            DataError: the data has no label column.
        """
        if targets.labels is None:
            raise DataError(
                "loss 'hard' needs labels", field="label", found="no such column", fix="name it: columns: {label: YOUR_COLUMN}"
            )
        labelled = (targets.labels >= 0).sum().clamp(min=1)
        return nn.functional.cross_entropy(student.output, targets.labels, reduction="sum", ignore_index=-100) / labelled
