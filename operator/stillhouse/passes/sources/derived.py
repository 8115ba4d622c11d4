"""A `dataset` artifact made of others: rows left out, rows repeated, rows from two files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError
from stillhouse.passes.base import Artifact
from stillhouse.passes.sources.columns import SHOWN, array_role
from stillhouse.passes.sources.dataset import DATA_FILE, Description, read_description
from stillhouse.passes.sources.leaks import normalised

__all__ = ["named_columns", "numbers_of", "read_table", "shown_texts", "unused_columns", "write_table"]

_CHUNK = 65_536


def read_table(artifact: Artifact) -> Any:
    """Return an artifact's rows as a pyarrow Table, one column a role."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(artifact.path / DATA_FILE)


def write_table(table: Any, out: Path, like: Artifact) -> Description:
    """Write rows as a dataset artifact whose columns are those of `like`, and say what it is.

    Raises:
        DataError: no row is left.
    """
    import pyarrow.parquet

    if not table.num_rows:
        raise DataError(
            "no row is left to learn from",
            field="data.uri",
            found=f"{like.facts.get('rows', 0)} rows, none of them kept",
            allowed="at least one",
            fix="give other rows, or raise spec.distill.deduplicate.threshold",
        )
    before = read_description(like.path)
    table = table.combine_chunks()
    digest = hashlib.sha256()
    for name in table.column_names:
        for start in range(0, table.num_rows, _CHUNK):
            values = table.column(name).slice(start, _CHUNK).to_pylist()
            raws = (value.encode() if isinstance(value, str) else np.asarray(value, np.float32).tobytes() for value in values)
            for raw in raws:
                digest.update(len(raw).to_bytes(8, "little") + raw)
    classes = tuple(sorted(set(table.column("label").to_pylist()) - {""})) if "label" in table.column_names else ()
    made = Description(
        tuple(table.column_names), table.num_rows, before.source, f"sha256:{digest.hexdigest()}", classes, before.image
    )
    pyarrow.parquet.write_table(table, out / DATA_FILE, compression="zstd")
    made.write(out)
    return made


def named_columns(artifact: Artifact) -> dict[str, str]:
    """Return role → column of the user's file, for errors of whoever reads what was made of it."""
    found: Mapping[str, str] = artifact.facts.get("named") or {}
    return dict(found)


def unused_columns(artifact: Artifact) -> tuple[str, ...]:
    """Return the columns of the user's file that play no role, for the same."""
    return tuple(str(name) for name in artifact.facts.get("unused") or ())


def numbers_of(table: Any) -> npt.NDArray[np.float32]:
    """Return the column of images or features, float32 [rows, numbers]."""
    column = table.column(str(array_role(table.column_names))).combine_chunks()
    flat = np.asarray(column.flatten(), dtype=np.float32)
    return flat.reshape(table.num_rows, -1) if table.num_rows else flat.reshape(0, 0)


def shown_texts(table: Any) -> list[str]:
    """Return what a model is shown of each row as one text: normalised, a pair's both halves; of numbers their digest."""
    role = array_role(table.column_names)
    if role is not None:
        return [f"{role} " + hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in numbers_of(table)]
    if "text" in table.column_names:
        return [normalised(text) for text in table.column("text").to_pylist()]
    parts = [table.column(role).to_pylist() for role in SHOWN if role in table.column_names]
    return [normalised("\n".join(row)) for row in zip(*parts, strict=True)]
