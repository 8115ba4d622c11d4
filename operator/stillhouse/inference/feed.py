"""Token ids as a text model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stillhouse.errors import SourceError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["SHORTEST", "padded_length", "text_feed"]

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


def padded_length(longest: int, most: int) -> int:
    """Return the length that texts of up to `longest` tokens are padded to: a power of two from 8 on, `most` (0: none) at most.

    Requests of one length can run together: of all lengths, few would.
    """
    length = SHORTEST
    while length < longest:
        length *= 2
    return max(longest, min(length, most)) if most else length
