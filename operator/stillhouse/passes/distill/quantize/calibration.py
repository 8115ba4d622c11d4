"""The rows off which ranges are read, as a network takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from stillhouse.errors import DataError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.compress.feeds import calibration_feeds

__all__ = ["calibration_rows"]

_AT_ONCE = 8


def calibration_rows(folder: Path, signature: Signature, data: Artifact, samples: int) -> list[tuple[Tensor, ...]]:
    """Return the rows that static quantization would read, as batches of one length each: no padding is seen.

    `folder` has the tokenizer, `data` is the pass's input of role `calibration`.

    Raises:
        DataError: fewer than two differ, or they are not what the network takes.
    """
    try:
        feeds = calibration_feeds(folder, signature, data, samples, batch=1, spread=True)
    except DataError as error:
        field = error.problem.field
        if field.startswith("data."):  # so that it is told of these rows, and not of those that are learned from
            error.problem = replace(error.problem, field=f"calibration.{field.removeprefix('data.')}")
        raise
    rows = [tuple(torch.from_numpy(feed[name]) for name in signature.inputs) for feed in feeds]  # sorted by their lengths
    return [batch for _, alike in groupby(rows, lambda row: row[0].shape) for batch in _batches(list(alike))]


def _batches(rows: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    parts = (rows[first : first + _AT_ONCE] for first in range(0, len(rows), _AT_ONCE))
    return [tuple(torch.cat(values) for values in zip(*part, strict=True)) for part in parts]
