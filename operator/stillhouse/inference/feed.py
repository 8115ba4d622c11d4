"""Token ids as a text model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stillhouse.errors import DataError, SourceError
from stillhouse.inference.buckets import BucketPolicy, split

if TYPE_CHECKING:
    import numpy.typing as npt

    from stillhouse.inference.signature import Signature
    from stillhouse.inference.text import EncodedTexts

__all__ = ["SHORTEST", "padded_length", "run_feed", "text_feed", "text_feeds", "token_rows"]

SHORTEST = 8
"""Tokens of the shortest row that `padded_length` gives."""


def text_feed(
    names: Sequence[str], rows: Sequence[list[int]], lengths: Sequence[int], longest: int, pad: int
) -> dict[str, npt.NDArray[Any]]:
    """Build int64 [rows, longest] inputs: ids padded on the right with `pad`, the mask, zeros as token types.

    Raises:
        SourceError: the model has an input that texts do not fill.
    """
    import numpy as np

    ids = np.array([row + [pad] * (longest - len(row)) for row in rows], dtype=np.int64)
    feed: dict[str, npt.NDArray[Any]] = {}
    for name in names:
        if name == "input_ids":
            feed[name] = ids
        elif name == "attention_mask":
            feed[name] = (np.arange(longest) < np.array(lengths)[:, np.newaxis]).astype(np.int64)
        elif name == "token_type_ids":
            feed[name] = np.zeros_like(ids)
        else:
            raise SourceError(
                "the model has an input that texts do not fill",
                field="signature.json: inputs",
                found=name,
                allowed="input_ids, attention_mask, token_type_ids",
            )
    return feed


def text_feeds(
    signature: Signature, encoded: EncodedTexts, most: int = 32
) -> list[tuple[list[int], dict[str, npt.NDArray[Any]]]]:
    """Build the runs of a batch of texts, of at most `most` rows each: (which texts, the model's inputs). Lengths go together."""
    runs = []
    for start in range(0, len(encoded.ids), most):
        lengths = encoded.lengths[start : start + most]
        for bucket in split(lengths, BucketPolicy()):
            at = [start + each for each in bucket]
            runs.append((at, run_feed(signature, encoded, at)))
    return runs


def run_feed(signature: Signature, encoded: EncodedTexts, at: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """Build the inputs of one run: the texts `at`, padded to the longest of them."""
    rows, sizes = [encoded.ids[each] for each in at], [encoded.lengths[each] for each in at]
    return text_feed(signature.inputs, rows, sizes, max(sizes), signature.pad_id)


def token_rows(ids: npt.NDArray[Any], mask: npt.NDArray[Any] | None, vocabulary: int, max_length: int) -> list[list[int]]:
    """Take rows of token ids apart that `text_feed` or a step `tokenise` has put together.

    Args:
        ids: integers [n, tokens], padded on the right.
        mask: integers of the same shape, 1 for every token of a row and 0 behind it; None: all 1.
        vocabulary: ids are below it.
        max_length: tokens of a row at most; 0: no limit.

    Raises:
        DataError: with the tensor and the row.
    """
    import numpy as np

    if ids.ndim != 2 or ids.shape[1] < 1:
        raise DataError("token ids are rows", field="input_ids", found=str(list(ids.shape)), allowed="[n, tokens]")
    if mask is None:
        lengths = np.full(len(ids), ids.shape[1])
    elif mask.shape != ids.shape:
        found, allowed = str(list(mask.shape)), f"{list(ids.shape)}, the shape of input_ids"
        raise DataError("the mask has another shape", field="attention_mask", found=found, allowed=allowed)
    else:
        lengths = mask.sum(axis=1)
        wrong = ((np.arange(ids.shape[1]) < lengths[:, np.newaxis]) != mask).any(axis=1) | (lengths < 1)
        if wrong.any():
            field = f"attention_mask[{int(wrong.argmax())}]"
            raise DataError("a mask is ones and then zeros", field=field, allowed="one 1 at least; padding on the right")
    outside = ((ids < 0) | (ids >= vocabulary)).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        found = f"{int(ids[row].min())} to {int(ids[row].max())}"
        raise DataError(
            "no token of the model's vocabulary", field=f"input_ids[{row}]", found=found, allowed=f"0 to {vocabulary - 1}"
        )
    longest = int(lengths.max(initial=0))
    if max_length and longest > max_length:
        field = f"input_ids[{int(lengths.argmax())}]"
        raise DataError("the row is too long", field=field, found=f"{longest} tokens", allowed=f"{max_length} tokens")
    kept: list[int] = lengths.tolist()
    return [row[:length] for row, length in zip(ids.tolist(), kept, strict=True)]


def padded_length(longest: int, most: int) -> int:
    """Return the length that texts of up to `longest` tokens are padded to: a power of two from 8 on, `most` (0: none) at most.

    Requests of one length can run together: of all lengths, few would.
    """
    length = SHORTEST
    while length < longest:
        length *= 2
    return max(longest, min(length, most)) if most else length
