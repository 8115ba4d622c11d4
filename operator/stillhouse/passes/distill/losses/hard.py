"""Cross-entropy with the labels alone: the second stage after soft targets, and the control without a teacher.

With logits z float32 [batch, K], q = softmax(z), and a row's label y of labels int64 [batch], -100 for none:

    mean over rows that have a label of  −log q_y

smoothed and weighted as `cross_entropy.py` has it. The second of the two objectives in Hinton, Vinyals & Dean 2015,
arXiv:1503.02531, section 2, by itself; as a score of a softmax Bridle 1990, "Probabilistic interpretation of feedforward
classification network outputs".
"""

from __future__ import annotations

from torch import Tensor

from stillhouse.errors import DataError
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.cross_entropy import CrossEntropy
from stillhouse.passes.distill.losses.term import LossTerm, Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["HardLoss"]


class HardLoss(LossTerm):
    """The `hard` term: mean cross-entropy over the rows that have a label; 0 for a batch without any."""

    def __init__(self, config: LossConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.cross_entropy = CrossEntropy(config, sizes)

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
        total: Tensor = self.cross_entropy(student.output, targets.labels)
        return total / labelled
