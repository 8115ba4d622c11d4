"""The `dataset` artifact: `data.parquet` with one column a role, and `dataset.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import DataError

__all__ = ["DATASET_FILE", "DATA_FILE", "Description", "read_columns", "read_description"]

DATA_FILE = "data.parquet"
DATASET_FILE = "dataset.json"


@dataclass(frozen=True, slots=True)
class Description:
    """`dataset.json`.

    `columns` are roles; `content` is the digest of the rows in their order; `classes` the distinct labels, sorted;
    `image` the shape of every image (channels, height, width; or one number where only a flat list was given).
    """

    columns: tuple[str, ...]
    rows: int
    source: str
    content: str
    classes: tuple[str, ...] = ()
    image: tuple[int, ...] = ()

    def write(self, folder: Path) -> None:
        """Write `dataset.json` into `folder`."""
        data = {
            "version": 1, "columns": list(self.columns), "rows": self.rows, "source": self.source, "content": self.content,
            "classes": list(self.classes), "image": {"shape": list(self.image)} if self.image else None,
        }  # fmt: skip
        (folder / DATASET_FILE).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_description(folder: Path) -> Description:
    """Read `dataset.json` of an artifact folder."""
    data = json.loads((folder / DATASET_FILE).read_bytes())
    image = tuple(data["image"]["shape"]) if data.get("image") else ()
    return Description(
        tuple(data["columns"]),
        data["rows"],
        data.get("source", ""),
        data.get("content", ""),
        tuple(data.get("classes", ())),
        image,
    )


def read_columns(folder: Path, roles: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of a `dataset` artifact: role → values (image, features: list of float; the others: str).

    Raises:
        DataError: the data has no such column.
    """
    import pyarrow.parquet

    there = read_description(folder).columns
    for role in roles:
        if role not in there:
            raise DataError(
                f"the data has no column for {role}",
                field=f"data.columns.{role}",
                found=", ".join(there),
                allowed=role,
                fix=f"name it in the resource: columns: {{{role}: COLUMN}}",
            )
    table = pyarrow.parquet.read_table(folder / DATA_FILE, columns=list(roles), memory_map=True)
    return {role: table.column(role).to_pylist() for role in roles}
