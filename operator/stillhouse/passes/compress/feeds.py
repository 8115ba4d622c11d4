"""Calibration rows as what a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.errors import DataError
from stillhouse.inference.image import scaled
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context
from stillhouse.passes.export.samples import Feed
from stillhouse.passes.sources.columns import ARRAYS
from stillhouse.passes.sources.dataset import DATA_FILE, read_columns, read_description

__all__ = ["ForeseesPoorRows", "calibration_feeds", "tell_one_class"]

LEAST = 2
"""Rows that differ: of one alone every range is its own, and nothing shows that others go beyond."""
_SHOWN = ("text", "query", "document", *ARRAYS)


def calibration_feeds(
    source: Path, signature: Signature, data: Artifact, samples: int, batch: int = 8, *, spread: bool = False
) -> list[Feed]:
    """Return up to `samples` rows of `data` as feeds of up to `batch` rows of about one length; `source` has the tokenizer.

    Texts are spread over the data, which may be sorted; images and features with `spread` alone, else they are the first.

    Raises:
        DataError: the data has no column that the model takes, images or features of another size, or fewer than two rows that
            differ.
    """
    _refuse_poor(data)
    if not signature.takes_texts:
        return _array_feeds(signature, data, samples, batch, spread)
    roles = read_description(data.path).columns
    role = next((role for role in ("text", "query", "document") if role in roles), None)
    if role is None:
        raise DataError(
            "the calibration data has no texts",
            field="data.columns",
            found=", ".join(roles),
            allowed="a column text (or query, document)",
            fix="name it: columns: {text: COLUMN}",
        )
    from tokenizers import Tokenizer

    texts = read_columns(data.path, [role])[role]
    chosen = texts[:: max(len(texts) // samples, 1)][:samples]  # spread over the data, which may be sorted
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=signature.max_length)
    rows = sorted((encoding.ids for encoding in tokenizer.encode_batch(chosen)), key=len)
    return [_batch(signature, rows[start : start + batch]) for start in range(0, len(rows), batch)]


def _refuse_poor(data: Artifact) -> None:
    """Refuse rows that cannot show what will be asked.

    Raises:
        DataError: there are fewer than two that differ.
    """
    import pyarrow.parquet as pq

    role = next((role for role in _SHOWN if role in read_description(data.path).columns), None)
    if role is None:
        return  # reading the rows says so, with what is there
    seen: set[object] = set()
    rows = 0
    for batch in pq.ParquetFile(data.path / DATA_FILE).iter_batches(batch_size=64, columns=[role]):
        values = batch.column(0).to_pylist()
        rows += len(values)
        seen.update(tuple(value) if isinstance(value, list) else value for value in values)
        if len(seen) >= LEAST:
            return
    raise DataError(
        "these calibration rows are too few: what a model does with its inputs is read off them",
        field="data.uri",
        found=f"{rows} rows, {len(seen)} of them different",
        allowed=f"at least {LEAST} different ones; some hundred are usual",
        fix="name more data under spec.compress.calibration, or a precision that needs none: fp16, fp32",
    )


class ForeseesPoorRows:
    """A pass whose `data` are calibration rows: what `calibration_feeds` refuses of imports is told before hours of work."""

    def foresee(self, config: Any, inputs: Mapping[str, Artifact]) -> None:
        """Refuse calibration rows that are too few.

        Raises:
            DataError: fewer than two of them differ.
        """
        if "data" in inputs:
            _refuse_poor(inputs["data"])


def tell_one_class(data: Artifact, ctx: Context) -> None:
    """Say so, once in a run, where all calibration rows have one label: labels are not needed, but inputs of every kind."""
    if "label" not in read_description(data.path).columns:
        return
    labels = read_columns(data.path, ["label"])["label"]
    classes = set(labels) - {""}
    if len(classes) == 1 and "" not in labels:
        ctx.note_once(
            f"all {len(labels):,} calibration rows are of class {classes.pop()}: what inputs of other classes do is guessed,"
            " and the gate alone sees it; better are rows as they will be asked"
        )


def _batch(signature: Signature, rows: Sequence[Sequence[int]]) -> Feed:
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), signature.pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    made: Feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: made[name] for name in signature.inputs}


def _array_feeds(signature: Signature, data: Artifact, samples: int, batch: int, spread: bool) -> list[Feed]:
    role, shape = signature.role, signature.shape
    every = read_columns(data.path, [role])[role]
    values = every[:: max(len(every) // samples, 1) if spread else 1][:samples]
    try:
        arrays = np.asarray(values, dtype=np.float32).reshape(-1, *shape)
    except ValueError as error:
        raise DataError(
            f"the {signature.rows} have another size than the model takes",
            field=f"data.columns.{role}",
            found=f"{len(values[0])} numbers a row",
            allowed=" × ".join(map(str, shape)),
            fix=f"set source.{role} to the shape of the data",
        ) from error
    # Not looked at, as `prepared` would: what is not finite is told where it is read, as of any activation.
    rows = arrays if signature.image is None else scaled(arrays, signature.image)
    return [{signature.inputs[0]: rows[start : start + batch]} for start in range(0, len(rows), batch)]
