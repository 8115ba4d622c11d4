"""The training objective's terms, one file each; `planning/manifest.py` has the table. Importing this imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.planning.manifest import LOSSES

if TYPE_CHECKING:
    from stillhouse.passes.distill.losses.term import LossTerm, Sizes

__all__ = ["build_losses", "needed_outputs", "reads_along"]


def build_losses(losses: Sequence[LossConfig], sizes: Sizes) -> list[LossTerm]:
    """Build the terms in order; `sizes` tells what the learned projections join."""
    terms = []
    for loss in losses:
        module, _, name = LOSSES[loss.kind].target.partition(":")
        made = getattr(importlib.import_module(module), name)
        terms.append(cast("LossTerm", made(loss, sizes)))
    return terms


def needed_outputs(losses: Sequence[LossConfig]) -> tuple[str, ...]:
    """Return which of the teacher's outputs (`embedding`, `logits`, `hidden`, `features`) these losses read, in a fixed order."""
    kinds = {LOSSES[loss.kind].reads for loss in losses}
    return tuple(name for name in ("embedding", "logits", "hidden", "features") if name in kinds)


def reads_along(losses: Sequence[LossConfig]) -> bool:
    """Return whether the teacher has to read every batch beside the student."""
    return any(LOSSES[loss.kind].reads == "tokens" for loss in losses)
