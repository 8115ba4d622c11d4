"""A retrieval index at the edge: the rows of one model's embeddings, mapped from a file, and their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.errors import SourceError
from stillhouse.inference.confidence import Neighbours, nearest

__all__ = ["Index", "read_index"]

_BLOCK = 4096
_OFF = 1e-3
"""How far a row's length may be from 1; float32 sums of a thousand squares are within 1e-6."""
_FIX = "build the model again: still rebuild NAME"


@dataclass(frozen=True, slots=True)
class Index:
    """`vectors` float32 [rows, dimension], of length 1; `names` of the rows. `k`: how many neighbours a search gives."""

    vectors: npt.NDArray[np.float32]
    names: tuple[bytes, ...]
    k: int

    @property
    def dimension(self) -> int:
        """Return how long an embedding must be to be looked for here."""
        return int(self.vectors.shape[1])

    def search(self, embeddings: npt.NDArray[Any]) -> Neighbours:
        """Return the nearest rows of embeddings [n, dimension].

        Raises:
            DataError: they have another dimension.
        """
        return nearest(embeddings, self.vectors, self.k)


def read_index(path: Path, names: tuple[bytes, ...], k: int) -> Index:
    """Map an index from a file. Each row is looked at once, block by block: the pages stay the file's.

    Raises:
        SourceError: it is no such file, or does not fit to the names.
    """
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged header numpy raises whatever its parser meets: tokenize's, ast's errors, …
        raise SourceError("the index is not readable", field=str(path), found=str(error), fix=_FIX) from error
    if vectors.ndim != 2 or vectors.dtype != np.float32 or not vectors.shape[1]:
        found = f"{vectors.dtype} {list(vectors.shape)}"
        raise SourceError(
            "the index has another form", field=str(path), found=found, allowed="float32 [rows, dimension]", fix=_FIX
        )
    if len(vectors) != len(names) or not names:
        found, allowed = f"{len(vectors)} rows", f"{len(names)}, one for each name of names.json, at least one"
        raise SourceError("the index does not fit to its names", field=str(path), found=found, allowed=allowed, fix=_FIX)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        wrong = np.flatnonzero(~(np.abs(lengths - 1) <= _OFF))  # NaN is wrong too
        if len(wrong):
            row = start + int(wrong[0])
            found = f"row {row} of length {lengths[wrong[0]]:.4g}"
            raise SourceError("the index holds a row that is no direction", field=str(path), found=found, allowed="1", fix=_FIX)
    return Index(vectors, names, k)
