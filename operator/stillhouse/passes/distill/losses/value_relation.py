"""Value relation: which tokens' values are alike, as in the teacher.

`relations.py` with a = b = values.
"""

from __future__ import annotations

from typing import ClassVar

from stillhouse.passes.distill.losses.relations import RelationTerm

__all__ = ["ValueRelationLoss"]


class ValueRelationLoss(RelationTerm):
    """The `value-relation` term."""

    traces: ClassVar[tuple[str, ...]] = ("value",)
