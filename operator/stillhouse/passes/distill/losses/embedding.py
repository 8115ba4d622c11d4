"""Distance to the teacher's embedding.

With a row's embeddings s (student) and t (teacher), float32 [batch, dimension] each:

    `cosine` (the default): mean over rows of 1 − cos(s, t)        `mse`: mean over rows of ‖s − t‖²

For unit vectors the second is exactly twice the first. Regression onto a teacher's sentence embeddings: Reimers & Gurevych
2020, arXiv:2004.09813, section 2 (there `mse`).
"""

from __future__ import annotations

from torch import Tensor, nn

from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.models.network import NetworkOutput

__all__ = ["EmbeddingLoss", "distance"]


class EmbeddingLoss(LossTerm):
    """The `embedding` term."""

    def forward(self, student: NetworkOutput, targets: Targets) -> Tensor:
        """Return the mean distance, float32 scalar."""
        return distance(student.output, targets.teacher["embedding"], self.config.distance)


def distance(student: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """Return the mean over rows of the distance between float32 [batch, dimension] tensors."""
    if kind == "mse":
        return (student - teacher).pow(2).sum(1).mean()
    return (1.0 - nn.functional.cosine_similarity(student, teacher, dim=1)).mean()
