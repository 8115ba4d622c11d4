"""Inputs made for tracing, parity and timing. Seeded: the same signature gives the same tensors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stillhouse.inference.signature import Signature

__all__ = ["Feed", "feed", "parity_feeds", "timing_shapes"]

Feed = dict[str, NDArray[np.generic]]
"""ONNX input name → array: int64 [batch, sequence] for texts, float32 [batch, channels, height, width] for images, and as
`FeatureSpec` says for features."""


def feed(signature: Signature, batch: int, length: int, vocabulary: int, *, seed: int = 0, padded: bool = True) -> Feed:
    """Make one feed of `batch` rows.

    Texts: random ids below `vocabulary`; with `padded`, every row but the first ends in padding after a random length of
    at least one token. Images (`length` is ignored): standard normal, as normalised pixels are. Features:
    normal, with the means and deviations of the rows that the model learned from where those are known.
    """
    rng = np.random.default_rng(seed)
    if not signature.takes_texts:
        values = rng.standard_normal((batch, *signature.shape), dtype=np.float32)
        features = signature.features
        if features is not None and features.mean and features.std:
            values = values * np.asarray(features.std, np.float32) + np.asarray(features.mean, np.float32)
        return {signature.inputs[0]: values.astype(np.float32, copy=False)}
    ids = rng.integers(0, max(vocabulary, 1), (batch, length), dtype=np.int64)
    mask = np.ones((batch, length), dtype=np.int64)
    if padded:
        for row in range(1, batch):
            mask[row, int(rng.integers(1, length + 1)) :] = 0
    ids[mask == 0] = signature.pad_id
    made: Feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: made[name] for name in signature.inputs}


def parity_feeds(signature: Signature, samples: int, vocabulary: int) -> Iterator[Feed]:
    """Yield feeds of different batch sizes and lengths, `samples` rows or a few more in all.

    One row of one token and one row of the longest text are always among them.
    """
    longest = signature.max_length or 32
    lengths = sorted({1, min(7, longest), min(16, longest), min(33, longest), min(64, longest), longest})
    batches = (1, 3, 2, 5, 4, 8)
    rows = 0
    step = 0
    while rows < samples or step < len(lengths):
        # The longest texts are dear: one row each is enough to see the last position.
        length = lengths[step % len(lengths)]
        batch = 1 if length == longest else batches[step % len(batches)]
        yield feed(signature, batch, length, vocabulary, seed=step)
        rows += batch
        step += 1


def timing_shapes(signature: Signature) -> tuple[tuple[int, int], ...]:
    """Return the (batch, length) pairs at which exporters are compared: 1 and 8 rows of 32 tokens, or of what is no text."""
    length = min(32, signature.max_length or 32)
    return ((1, length), (8, length))
