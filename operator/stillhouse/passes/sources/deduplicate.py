"""`deduplicate`: one row of those that say nearly the same, and none that says nearly what a held-out row says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field

from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.sources.alike import keep_distinct, likeness, near_any
from stillhouse.passes.sources.columns import SHOWN, array_role
from stillhouse.passes.sources.derived import named_columns, read_table, shown_texts, unused_columns, write_table
from stillhouse.passes.sources.leaks import normalised

__all__ = ["Deduplicate", "DeduplicateConfig", "DeduplicateFacts"]


class DeduplicateConfig(PassConfig):
    """`threshold`: Jaccard similarity of character 5-grams above which two texts are nearly the same; 1: equal texts only."""

    threshold: float = Field(gt=0, le=1)


@dataclass(frozen=True, slots=True)
class DeduplicateFacts:
    """`read` rows, of which `rows` are left.

    `exact`, `near`: another row says the same, or nearly. `conflicts`: kept although one does, because the labels differ.
    `held_out`: role of the held-out data → rows that were left out because of it.
    """

    read: int
    rows: int
    exact: int
    near: int
    conflicts: int
    held_out: dict[str, int]
    named: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


class Deduplicate(Pass[DeduplicateConfig, DeduplicateFacts]):
    """The rows of `data` without repetitions and without rows of the other inputs, all of which are held out."""

    name = "deduplicate"
    version = 1
    kind = "dataset"
    config_type = DeduplicateConfig

    def run(self, config: DeduplicateConfig, inputs: Mapping[str, Artifact], ctx: Context) -> DeduplicateFacts:
        """Write the rows that are left, in their order.

        Raises:
            DataError: none is.
        """

        def tick(message: str) -> None:
            ctx.progress.update(0, None, "", message)

        data = inputs["data"]
        table = read_table(data)
        threshold = likeness(table.column_names, config.threshold)
        rows = np.ones(table.num_rows, dtype=bool)
        columns = _columns(table)
        held_out = {}
        for role in sorted(set(inputs) - {"data"}):
            tick(f"comparing with {role}")
            other = _columns(read_table(inputs[role]))
            found = np.zeros(table.num_rows, dtype=bool)
            for mine in columns:
                for theirs in other:
                    found |= near_any(mine, theirs, threshold, tick)
            held_out[role] = int((found & rows).sum())
            rows &= ~found
        left = np.flatnonzero(rows)
        rest = table.take(left)
        labels = rest.column("label").to_pylist() if "label" in rest.column_names else None
        kept = keep_distinct(shown_texts(rest), labels, threshold, tick)
        made = write_table(rest.take(kept.rows), ctx.out, data)
        ctx.progress.note(
            f"{made.rows:,} of {table.num_rows:,} rows are left: {kept.exact:,} repeated, {kept.near:,} nearly repeated, "
            f"{sum(held_out.values()):,} held out"
        )
        return DeduplicateFacts(
            table.num_rows,
            made.rows,
            kept.exact,
            kept.near,
            kept.conflicts,
            held_out,
            named_columns(data),
            unused_columns(data),
        )


def _columns(table: Any) -> list[list[str]]:
    """Return what a model is shown, column by column: each half of a pair leaks by itself."""
    names = [role for role in SHOWN if role in table.column_names]
    if array_role(names) is not None:
        return [shown_texts(table)]
    return [[normalised(text) for text in table.column(name).to_pylist()] for name in names]
