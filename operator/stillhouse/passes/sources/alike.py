"""Which rows say the same as others: exactly (normalised), or nearly (character 5-grams in common).

Near-duplicates are found by the exact join of `neighbours`; images and features are told apart by digests, which are equal
or say nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillhouse.passes.sources.columns import array_role
from stillhouse.passes.sources.neighbours import Tick, similar_pairs

__all__ = ["Kept", "keep_distinct", "likeness", "near_any"]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of rows.

    `rows`: int64, the numbers of those that are kept, ascending. `exact`, `near`: rows left out because a kept one says the same,
    or nearly. `conflicts`: rows that were kept beside a row that says the same, because their labels differ.
    """

    rows: npt.NDArray[np.int64]
    exact: int
    near: int
    conflicts: int


def likeness(columns: Sequence[str], threshold: float) -> float:
    """Return the threshold for rows with these columns: images and features are compared exactly only."""
    return threshold if array_role(columns) is None else 1.0


def keep_distinct(texts: Sequence[str], labels: Sequence[str] | None, threshold: float, tick: Tick) -> Kept:
    """Keep one row of those that say the same.

    Rows with a label are looked at first, each in order: one is left out when a kept row says the same and has its label, or it
    has none. So no row is left out but for one that is kept, however long a chain of likenesses is, and two labels of one text
    stay two rows.

    Args:
        texts: what is compared, normalised.
        labels: of each row, "" for none; None where there is no column.
        threshold: Jaccard similarity above which two texts are nearly the same; 1: only equal texts are.
        tick: is told how far it is.
    """
    labels = labels if labels is not None else [""] * len(texts)
    first: dict[tuple[str, str], int] = {}
    said: dict[str, set[str]] = defaultdict(set)
    order = sorted(range(len(texts)), key=lambda row: (not labels[row], row))
    distinct: list[int] = []
    exact = conflicts = 0
    for row in order:
        text, label = texts[row], labels[row]
        if (text, label) in first or (not label and said[text]):
            exact += 1
            continue
        conflicts += bool(said[text])
        first[text, label] = row
        said[text].add(label)
        distinct.append(row)
    kept, near = distinct, 0
    if threshold < 1:
        kept, near, more = _without_near([texts[row] for row in distinct], [labels[row] for row in distinct], threshold, tick)
        kept, conflicts = [distinct[at] for at in kept], conflicts + more
    return Kept(np.sort(np.asarray(kept, dtype=np.int64)), exact, near, conflicts)


def _without_near(texts: Sequence[str], labels: Sequence[str], threshold: float, tick: Tick) -> tuple[list[int], int, int]:
    """Return what is kept of rows that are all distinct, how many are not, and how many differ by their label alone."""
    pairs, _ = similar_pairs(texts, texts, tick, threshold)
    others: Mapping[int, list[int]] = _by_first(pairs)
    kept = np.zeros(len(texts), dtype=bool)
    near = conflicts = 0
    for row, label in enumerate(labels):
        alike = [other for other in others.get(row, ()) if kept[other]]
        if any(labels[other] == label or not label for other in alike):
            near += 1
            continue
        conflicts += any(texts[other] != texts[row] for other in alike)
        kept[row] = True
    return np.flatnonzero(kept).tolist(), near, conflicts


def _by_first(pairs: npt.NDArray[np.int64]) -> dict[int, list[int]]:
    """Return row → the rows before it that are like it."""
    found: dict[int, list[int]] = defaultdict(list)
    for one, other in pairs[pairs[:, 1] < pairs[:, 0]].tolist():
        found[one].append(other)
    return found


def near_any(texts: Sequence[str], held_out: Sequence[str], threshold: float, tick: Tick) -> npt.NDArray[np.bool_]:
    """Say of each text whether it is one of `held_out`, or nearly: bool [texts]."""
    same = set(held_out)
    found = np.array([text in same for text in texts], dtype=bool)
    if threshold < 1 and texts and held_out:
        pairs, _ = similar_pairs(texts, list(held_out), tick, threshold)
        found[pairs[:, 0]] = True
    return found
