"""What a network is called with: texts as token ids in one array, images and features as numbers of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from stillhouse.api.source import TEXT_TASKS
from stillhouse.errors import DataError
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE, TextEncoder

if TYPE_CHECKING:
    from stillhouse.passes.base import Progress
    from stillhouse.passes.distill.rows import Rows

__all__ = ["Arrays", "Texts", "encode_texts", "length_batches", "read_inputs"]

_ENCODE_AT_ONCE: Final = 2048


@dataclass(frozen=True, slots=True)
class Texts:
    """Token ids of many texts in one array: text i is `ids[starts[i] : starts[i + 1]]`.

    `cut[i]` is how many of its tokens lie behind the limit. `unknown` counts the tokens that the vocabulary lacks.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int32]
    pad_id: int
    inputs: tuple[str, ...]

    @property
    def count(self) -> int:
        """Return how many texts there are."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Return tokens per text, special ones included, int64 [rows]."""
        return np.diff(self.starts)

    def batch(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        """Return the model's inputs for these rows, in its order: int64 [rows, longest], padded on the right."""
        longest = max(int(self.starts[row + 1] - self.starts[row]) for row in rows)
        ids = np.full((len(rows), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for at, row in enumerate(rows):
            values = self.ids[self.starts[row] : self.starts[row + 1]]
            ids[at, : len(values)] = values
            mask[at, : len(values)] = 1
        made = {"input_ids": ids, "attention_mask": mask}
        return tuple(made[name] if name in made else np.zeros_like(ids) for name in self.inputs)


@dataclass(frozen=True, slots=True)
class Arrays:
    """Normalised pixels float32 [rows, channels, height, width], or features; of one length, so that batches need no sorting."""

    values: npt.NDArray[np.float32]

    @property
    def count(self) -> int:
        """Return how many rows there are."""
        return len(self.values)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Return 1 for every row."""
        return np.ones(len(self.values), dtype=np.int64)

    def batch(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], ...]:
        """Return the model's input for these rows."""
        return (self.values[np.asarray(rows)],)


def encode_texts(
    texts: Sequence[str], model: Path, signature: Signature, max_length: int | None, progress: Progress | None = None
) -> Texts:
    """Tokenise texts for the model in folder `model`, cut to `max_length` tokens (None, or more: its own limit)."""
    limit = min((each for each in (max_length, signature.max_length) if each), default=0)
    encoder = TextEncoder(model / TOKENIZER_FILE, limit)
    parts: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    cut: list[int] = []
    for first in range(0, len(texts), _ENCODE_AT_ONCE):
        encoded = encoder.encode(texts[first : first + _ENCODE_AT_ONCE])
        parts.extend(np.asarray(ids, dtype=np.int32) for ids in encoded.ids)
        lengths.extend(encoded.lengths)
        cut.extend(encoded.cut)
        if progress is not None:
            progress.update(len(lengths), len(texts), "texts", "tokenising")
    return Texts(
        ids=np.concatenate(parts) if parts else np.zeros(0, np.int32),
        starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        cut=np.asarray(cut, dtype=np.int32),
        pad_id=signature.pad_id,
        inputs=signature.inputs,
    )


def read_inputs(
    rows: Rows, model: Path, signature: Signature, max_length: int | None, progress: Progress | None = None
) -> Texts | Arrays:
    """Return what the model is called with: tokenised training texts, normalised images, or features."""
    if signature.task not in TEXT_TASKS:
        from stillhouse.inference.arrays import prepared

        if signature.takes_texts:
            raise DataError(
                "the model does not say the shape of its images",
                field="spec.source.image",
                found="no shape",
                allowed="height, width and channels",
                fix="write image: {height: 28, width: 28, channels: 1}, as the model takes them",
            )
        return Arrays(prepared(rows.arrays(signature), signature))
    return encode_texts(rows.training_texts(), model, signature, max_length, progress)


def length_batches(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tokens: int, most: int
) -> list[npt.NDArray[np.int64]]:
    """Split `rows` into batches of similar length for a forward only: at most `tokens` padded tokens and `most` rows.

    Longest first: memory peaks at once, and the estimate of the time left errs on the safe side.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    out: list[npt.NDArray[np.int64]] = []
    first = 0
    while first < len(order):
        size = max(1, min(most, tokens // max(1, int(lengths[order[first]]))))
        out.append(order[first : first + size])
        first += size
    return out
