"""Rows of a dataset as Python data, and a configuration that makes changed copies of them."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from stillhouse.passes.base import Artifact

__all__ = ["LONG", "augmenting", "read"]

LONG = "return the current working directory of a file that was opened by another thread"


def read(made: Artifact) -> dict[str, list[Any]]:
    """Return a dataset's columns."""
    return pq.read_table(made.path / "data.parquet").to_pydict()


def augmenting(
    *kinds: str, copies: int = 1, labels: str = "teacher", chance: float = 1.0, amount: float = 0.3, seed: int = 7
) -> dict[str, Any]:
    """Return a configuration of `Augment`: every kind of change alike."""
    return {
        "copies": copies,
        "labels": labels,
        "seed": seed,
        "operations": [{"kind": kind, "amount": amount, "chance": chance} for kind in kinds],
    }
