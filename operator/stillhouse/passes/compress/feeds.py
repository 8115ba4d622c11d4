"""Calibration rows as what a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stillhouse.errors import DataError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.export.samples import Feed
from stillhouse.passes.sources.dataset import read_columns, read_description

__all__ = ["calibration_feeds"]


def calibration_feeds(
    source: Path, signature: Signature, data: Artifact, samples: int, batch: int = 8, *, spread: bool = False
) -> list[Feed]:
    """Return up to `samples` rows of `data` as feeds of up to `batch` rows of about one length; `source` has the tokenizer.

    Texts are spread over the data, which may be sorted; images and features with `spread` alone, else they are the first.

    Raises:
        DataError: the data has no column that the model takes, or images or features of another size.
    """
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
    role, shape = signature.tensor.lower(), signature.shape
    every = read_columns(data.path, [role])[role]
    values = every[:: max(len(every) // samples, 1) if spread else 1][:samples]
    try:
        arrays = np.asarray(values, dtype=np.float32).reshape(-1, *shape)
    except ValueError as error:
        raise DataError(
            f"the {'images have' if role == 'image' else 'features have'} another size than the model takes",
            field=f"data.columns.{role}",
            found=f"{len(values[0])} numbers a row",
            allowed=" × ".join(map(str, shape)),
            fix=f"set source.{role} to the shape of the data",
        ) from error
    rows = arrays
    if signature.image is not None:  # not looked at: what is not finite is told where it is read, as of any activation
        mean, std = (np.asarray(part, np.float32)[None, :, None, None] for part in (signature.image.mean, signature.image.std))
        rows = (arrays - mean) / std
    return [{signature.inputs[0]: rows[start : start + batch]} for start in range(0, len(rows), batch)]
