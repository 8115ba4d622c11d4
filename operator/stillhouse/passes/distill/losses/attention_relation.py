"""Attention relation: which tokens attend to which, as in the teacher.

`relations.py` with a = queries and b = keys. With as many relation heads as both networks have attention heads, and positions
that are added to the states, R is the attention itself. Where positions turn queries and keys (rotary embeddings), it is what
attention would be without them, on both sides.
"""

from __future__ import annotations

from typing import ClassVar

from stillhouse.passes.distill.losses.relations import RelationTerm

__all__ = ["AttentionRelationLoss"]


class AttentionRelationLoss(RelationTerm):
    """The `attention-relation` term."""

    traces: ClassVar[tuple[str, ...]] = ("query", "key")
