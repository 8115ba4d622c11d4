"""The training objective's terms, one file each, and the table of them. Importing this package imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from stillhouse.passes.distill.losses.base import LossConfig

if TYPE_CHECKING:
    from stillhouse.passes.distill.losses.term import LossTerm, Sizes

__all__ = ["LOSSES", "build_losses", "needed_outputs"]

# kind → (module:Class, what it reads of the teacher's outputs)
LOSSES: Final[dict[str, tuple[str, str | None]]] = {
    "embedding": ("stillhouse.passes.distill.losses.embedding:EmbeddingLoss", "embedding"),
    "similarity": ("stillhouse.passes.distill.losses.similarity:SimilarityLoss", "embedding"),
    "contrastive": ("stillhouse.passes.distill.losses.contrastive:ContrastiveLoss", None),
    "logits": ("stillhouse.passes.distill.losses.logits:LogitsLoss", "logits"),
    "hard": ("stillhouse.passes.distill.losses.hard:HardLoss", None),
    "hidden": ("stillhouse.passes.distill.losses.hidden:HiddenLoss", "hidden"),
}


def build_losses(losses: Sequence[LossConfig], sizes: Sizes) -> list[LossTerm]:
    """Build the terms in order; `sizes` tells what the learned projections join."""
    terms = []
    for loss in losses:
        module, _, name = LOSSES[loss.kind][0].partition(":")
        made = getattr(importlib.import_module(module), name)
        terms.append(cast("LossTerm", made(loss, sizes)))
    return terms


def needed_outputs(losses: Sequence[LossConfig]) -> tuple[str, ...]:
    """Return which of the teacher's outputs (`embedding`, `logits`, `hidden`) these losses read, in a fixed order."""
    kinds = {LOSSES[loss.kind][1] for loss in losses}
    return tuple(name for name in ("embedding", "logits", "hidden") if name in kinds)
