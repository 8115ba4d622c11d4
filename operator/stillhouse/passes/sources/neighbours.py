"""Near-duplicates: pairs of texts whose sets of character 5-grams have a Jaccard similarity above a threshold.

An exact join by prefix filtering (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007, "Scaling Up All Pairs
Similarity Search"): put every text's shingles in one global order, rarest first; two texts whose similarity is at least t
share l shingles among the first n - ceil(t n) + l of each. Only pairs that do are compared. All of it is sorting of integer
arrays, so 100,000 texts take seconds. The one approximation: shingles are hashed to 24 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SHINGLE", "THRESHOLD", "Shingles", "clusters", "similar_pairs"]

SHINGLE = 5
THRESHOLD = 0.8
_BITS = 24
_TEXTS = 5_000  # texts whose shingles are cut at once: bounds the memory at some 100 MB
_PAIRS = 20_000  # pairs that are compared at once
_HITS = 4_000_000  # shared prefix shingles that are held at once
_SHARED = 4  # l: a longer prefix costs little, and pairs that share but one rare shingle are most of the candidates

Ints = npt.NDArray[np.int64]
Tick = Callable[[str], None]
"""Told in words how far it is, every few thousand texts or pairs."""


@dataclass(frozen=True)
class Shingles:
    """The shingle sets of many texts, one after the other.

    Attributes:
        codes: uint32, the distinct shingles of each text, ascending.
        starts: int64 [texts + 1], where each text's codes begin.
    """

    codes: npt.NDArray[np.uint32]
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> Ints:
        """Int64 [texts]: how many distinct shingles each text has."""
        return np.diff(self.starts)

    @classmethod
    def of(cls, texts: Sequence[str], tick: Tick) -> Shingles:
        """Cut lower-cased texts into overlapping runs of `SHINGLE` bytes; a shorter text is one shingle."""
        codes, sizes = [], []
        for start in range(0, len(texts), _TEXTS):
            chunk_codes, chunk_sizes = _cut(texts[start : start + _TEXTS])
            codes.append(chunk_codes)
            sizes.append(chunk_sizes)
            tick(f"shingles {start}/{len(texts)}")
        starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes or [np.zeros(0, np.int64)]))]).astype(np.int64)
        return cls(np.concatenate(codes or [np.zeros(0, np.uint32)]), starts)

    def reorder(self, rank: npt.NDArray[np.uint32]) -> Shingles:
        """Replace every code by its rank; the sets stay ascending."""
        owner = np.repeat(np.arange(len(self), dtype=np.uint64), self.sizes)
        keys = np.sort((owner << np.uint64(_BITS)) | rank[self.codes])
        return Shingles((keys & np.uint64((1 << _BITS) - 1)).astype(np.uint32), self.starts)


def _cut(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], Ints]:
    encoded = [text.lower().encode() or b" " for text in texts]
    encoded = [text if len(text) >= SHINGLE else text.ljust(SHINGLE) for text in encoded]
    lengths = np.array([len(text) for text in encoded], dtype=np.int64)
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.uint64)
    values = np.zeros(len(data) - SHINGLE + 1, dtype=np.uint64)
    for offset in range(SHINGLE):
        values = (values << np.uint64(8)) | data[offset : offset + len(values)]
    owner = np.repeat(np.arange(len(encoded), dtype=np.uint64), lengths)
    position = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)[: len(values)]
    inside = position <= lengths[owner[: len(values)].astype(np.int64)] - SHINGLE  # no shingle spans two texts
    hashed = (values[inside] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _BITS)  # Fibonacci hashing (Knuth, TAOCP 6.4)
    keys = np.unique((owner[: len(values)][inside] << np.uint64(_BITS)) | hashed)
    sizes = np.bincount((keys >> np.uint64(_BITS)).astype(np.int64), minlength=len(encoded))
    return (keys & np.uint64((1 << _BITS) - 1)).astype(np.uint32), sizes.astype(np.int64)


def _required(sizes: Ints, threshold: float) -> Ints:
    """Count the least number of shingles that a set of each size shares with any set above the threshold."""
    least: Ints = np.ceil(threshold * sizes - 1e-9).astype(np.int64)
    return least


def _prefixes(shingles: Shingles, threshold: float) -> tuple[npt.NDArray[np.uint32], Ints]:
    """Cut the prefix codes of all texts, and name the text that each belongs to, sorted by code."""
    sizes = shingles.sizes
    lengths = sizes - _required(sizes, threshold) + _SHARED
    owner = np.repeat(np.arange(len(shingles)), sizes)
    inside = np.arange(len(shingles.codes)) - shingles.starts[owner] < lengths[owner]
    codes, owner = shingles.codes[inside], owner[inside]
    order = np.argsort(codes, kind="stable")
    return codes[order], owner[order]


def _candidates(left: Shingles, right: Shingles, threshold: float) -> Iterator[Ints]:
    """Arrays [n, 2] of (left, right) that share enough prefix codes and are long enough alike, each pair once."""
    left_codes, left_owner = _prefixes(left, threshold)
    right_codes, right_owner = _prefixes(right, threshold)
    first = np.searchsorted(left_codes, right_codes, side="left")
    count = np.searchsorted(left_codes, right_codes, side="right") - first
    hit = count > 0
    first, count, right_owner = first[hit], count[hit], right_owner[hit]
    order = np.argsort(right_owner, kind="stable")  # one text's hits together: they are counted within a chunk
    first, count, right_owner = first[order], count[order], right_owner[order]
    text_ends = np.flatnonzero(np.diff(right_owner, append=-1)) + 1
    hits = np.cumsum(count)
    start = 0
    while start < len(count):
        reached = np.searchsorted(hits, hits[start] + _HITS)
        end = int(text_ends[min(np.searchsorted(text_ends, reached), len(text_ends) - 1)])
        some = count[start:end]
        partner = np.repeat(right_owner[start:end], some)
        inner = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
        mine = left_owner[np.repeat(first[start:end], some) + inner]
        smaller = np.minimum(left.sizes[mine], right.sizes[partner])
        larger = np.maximum(left.sizes[mine], right.sizes[partner])
        fits = smaller >= threshold * larger
        keys, shared = np.unique(mine[fits] * len(right) + partner[fits], return_counts=True)
        pairs = np.stack([keys // len(right), keys % len(right)], axis=1)
        least = np.minimum(_required(left.sizes[pairs[:, 0]], threshold), _required(right.sizes[pairs[:, 1]], threshold))
        yield pairs[shared >= np.minimum(_SHARED, least)]
        start = end


def _overlap(left: Shingles, right: Shingles, pairs: Ints) -> Ints:
    """How many codes the texts of each pair have in common: a code that both have stands twice in the pair's list."""
    number = np.arange(len(pairs), dtype=np.uint64)
    parts = []
    for shingles, column in ((left, 0), (right, 1)):
        chosen = pairs[:, column]
        sizes = shingles.sizes[chosen]
        inner = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        codes = shingles.codes[np.repeat(shingles.starts[chosen], sizes) + inner]
        parts.append((np.repeat(number, sizes) << np.uint64(_BITS)) | codes)
    keys = np.sort(np.concatenate(parts))
    twice = keys[1:][keys[1:] == keys[:-1]]
    return np.bincount((twice >> np.uint64(_BITS)).astype(np.int64), minlength=len(pairs)).astype(np.int64)


def similar_pairs(
    left: Sequence[str], right: Sequence[str], tick: Tick, threshold: float = THRESHOLD
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """All pairs whose Jaccard similarity is above `threshold`.

    Returns:
        Int64 [n, 2] of indices into `left` and `right`, and float64 [n] similarities.
    """
    if not left or not right:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    sets = [Shingles.of(texts, tick) for texts in (left, right)]
    present, frequency = np.unique(np.concatenate([one.codes for one in sets]), return_counts=True)
    rank = np.zeros(1 << _BITS, dtype=np.uint32)
    rank[present[np.argsort(frequency, kind="stable")]] = np.arange(len(present), dtype=np.uint32)
    tick("shingles ordered by rarity")
    first, second = (one.reorder(rank) for one in sets)
    found, similarities = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    compared = 0
    for candidates in _candidates(first, second, threshold):
        for start in range(0, len(candidates), _PAIRS):
            pairs = candidates[start : start + _PAIRS]
            common = _overlap(first, second, pairs)
            similarity = common / (first.sizes[pairs[:, 0]] + second.sizes[pairs[:, 1]] - common)
            above = similarity > threshold
            found.append(pairs[above])
            similarities.append(similarity[above])
            compared += len(pairs)
            tick(f"near-duplicates: {compared} pairs compared")
    pairs, similarity = np.concatenate(found), np.concatenate(similarities)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], similarity[order]


def clusters(count: int, pairs: Ints) -> Ints:
    """Find connected components: int64 [count], the smallest index of each item's component.

    Args:
        count: number of items.
        pairs: int64 [n, 2], items that belong together.
    """
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs.tolist():
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)
    return np.array([root(item) for item in range(count)], dtype=np.int64)
