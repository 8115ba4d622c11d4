"""`pool-data`: rows with labels and rows of which nobody said anything → one `dataset`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillhouse.errors import DataError
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.sources.columns import SHOWN, array_role
from stillhouse.passes.sources.derived import named_columns, read_table, unused_columns, write_table

__all__ = ["PoolConfig", "PoolData", "PoolFacts"]


class PoolConfig(PassConfig):
    """Nothing can be chosen: the rows of `data` come first."""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """`rows` in all, `pooled` of them from the pool."""

    rows: int
    pooled: int
    named: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


class PoolData(Pass[PoolConfig, PoolFacts]):
    """Put the rows of `unlabelled` behind those of `data`.

    A label of theirs is not read: they are learned from through what the teacher says. A name or group that they lack is "".
    """

    name = "pool-data"
    version = 1
    kind = "dataset"
    config_type = PoolConfig

    def run(self, config: PoolConfig, inputs: Mapping[str, Artifact], ctx: Context) -> PoolFacts:
        """Write the joined rows.

        Raises:
            DataError: the pool shows something else (texts, pairs, images, features), or numbers of another shape.
        """
        import pyarrow

        data, pool = inputs["data"], inputs["unlabelled"]
        known, more = read_table(data), read_table(pool)
        shown = [{role for role in SHOWN if role in table.column_names} for table in (known, more)]
        if not shown[0] <= shown[1]:
            raise _unlike(", ".join(sorted(shown[1])), ", ".join(sorted(shown[0])))
        columns = {}
        for name in known.column_names:
            mine = known.column(name)
            if name == "weight":
                continue
            if name == "label" or name not in more.column_names:
                theirs = pyarrow.chunked_array([pyarrow.array([""] * more.num_rows, type=mine.type)])
            else:
                theirs = more.column(name)
            columns[name] = pyarrow.chunked_array([*mine.chunks, *theirs.cast(mine.type).chunks])
        role = array_role(known.column_names)
        if role is not None:
            wanted, found = (len(table.column(role)[0]) for table in (known, more))
            if found != wanted:
                raise _unlike(f"{found} numbers a row", f"{wanted}, as the data has")
        if "weight" in known.column_names or "weight" in more.column_names:
            columns["weight"] = _weights(known, more)
        made = write_table(pyarrow.table(columns), ctx.out, data)
        ctx.progress.note(f"{known.num_rows:,} rows of data, {more.num_rows:,} of the pool")
        return PoolFacts(made.rows, more.num_rows, named_columns(data), unused_columns(data))


def _weights(known: Any, more: Any) -> Any:
    """Return the weights of all rows; those that have none weigh what the others weigh on average."""
    import pyarrow

    parts = [np.asarray(table.column("weight")) if "weight" in table.column_names else None for table in (known, more)]
    told = next(part for part in parts if part is not None)
    mean = told.max() * float(np.mean(told / told.max()))
    whole = [np.full(table.num_rows, mean) if part is None else part for part, table in zip(parts, (known, more), strict=True)]
    return pyarrow.chunked_array([pyarrow.array(part, type=pyarrow.float64()) for part in whole])


def _unlike(found: str, allowed: str) -> DataError:
    return DataError(
        "the pool shows something else than the data",
        field="spec.distill.unlabelled.columns",
        found=found,
        allowed=allowed,
        fix="name the columns by the roles that spec.distill.data has, or give rows of that form",
    )
