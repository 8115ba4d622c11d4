"""`balance`: rows of rare classes repeated, so that training sees them as often as it is wanted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.evaluate.columns import check_labels
from stillhouse.passes.sources.dataset import read_description
from stillhouse.passes.sources.derived import named_columns, read_table, unused_columns, write_table

__all__ = ["Balance", "BalanceConfig", "BalanceFacts"]

_SHOWN = 50


class BalanceConfig(PassConfig):
    """Every class gets `to` of the largest one's rows, none more than `most` times its own; `seed` draws which repeat."""

    to: float = Field(gt=0, le=1)
    most: int = Field(ge=1)
    seed: int = Field(ge=0)


@dataclass(frozen=True, slots=True)
class BalanceFacts:
    """`rows` in all, `repeated` of them copies. `before`, `after`: label → rows (the 50 smallest classes before)."""

    rows: int
    repeated: int
    before: dict[str, int]
    after: dict[str, int]
    named: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


class Balance(Pass[BalanceConfig, BalanceFacts]):
    """Oversampling: the rows of `data`, then the copies. Rows without a label stay once."""

    name = "balance"
    version = 1
    kind = "dataset"
    config_type = BalanceConfig

    def run(self, config: BalanceConfig, inputs: Mapping[str, Artifact], ctx: Context) -> BalanceFacts:
        """Write the rows. Each of a class is repeated equally often, but for the rest of the division, which is drawn.

        Raises:
            DataError: there is no column of labels.
        """
        data = inputs["data"]
        check_labels(read_description(data.path).columns, unused_columns(data), "spec.distill.data", "balance")
        table = read_table(data)
        labels = table.column("label").to_pylist()
        counts = Counter(label for label in labels if label)
        aim = math.ceil(config.to * max(counts.values(), default=0))
        generator = np.random.Generator(np.random.PCG64(config.seed))
        places: dict[str, list[int]] = {}
        for row, label in enumerate(labels):
            if label:
                places.setdefault(label, []).append(row)
        copies: list[int] = []
        for label in sorted(places):  # in an order that the data does not decide
            rows = places[label]
            missing = min(aim, config.most * len(rows)) - len(rows)
            if missing > 0:
                whole, rest = divmod(missing, len(rows))
                copies += rows * whole
                copies += [rows[at] for at in sorted(generator.choice(len(rows), rest, replace=False).tolist())]
        made = write_table(table.take(np.concatenate([np.arange(len(labels)), copies]).astype(np.int64)), ctx.out, data)
        after = counts + Counter(labels[row] for row in copies)
        rare = sum(after[label] > counts[label] for label in counts)
        ctx.progress.note(f"{len(copies):,} copies of rows of {rare} rare classes, {made.rows:,} rows in all")
        smallest = sorted(counts, key=lambda label: (counts[label], label))[:_SHOWN]
        return BalanceFacts(
            made.rows,
            len(copies),
            {label: counts[label] for label in smallest},
            {label: after[label] for label in smallest},
            named_columns(data),
            unused_columns(data),
        )
