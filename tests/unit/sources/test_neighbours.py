from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.passes.sources.neighbours import SHINGLE, clusters, similar_pairs


def quiet(message: str) -> None:
    """Say nothing."""


# Few letters and short texts: many true near-duplicates, also among texts that are shorter than one shingle.
TEXTS = st.lists(st.text("abAB é", max_size=24), min_size=1, max_size=12)


def shingles(text: str) -> set[bytes]:
    data = (text.lower().encode() or b" ").ljust(SHINGLE)
    return {data[start : start + SHINGLE] for start in range(len(data) - SHINGLE + 1)}


@settings(max_examples=40, deadline=None)
@given(left=TEXTS, right=TEXTS, threshold=st.sampled_from([0.3, 0.5, 0.8, 0.95]))
def test_the_join_finds_what_comparing_all_pairs_finds(left: list[str], right: list[str], threshold: float) -> None:
    expected = {}
    for i, one in enumerate(map(shingles, left)):
        for j, other in enumerate(map(shingles, right)):
            similarity = len(one & other) / len(one | other)
            if similarity > threshold:
                expected[i, j] = similarity
    pairs, similarity = similar_pairs(left, right, quiet, threshold)
    assert dict(zip(map(tuple, pairs.tolist()), similarity.tolist(), strict=True)) == expected


def test_nothing_to_compare() -> None:
    pairs, similarity = similar_pairs([], ["a text"], quiet)
    assert pairs.shape == (0, 2)
    assert similarity.shape == (0,)


def test_clusters_are_named_by_their_smallest_member() -> None:
    pairs, _ = similar_pairs([], [], quiet)
    assert clusters(3, pairs).tolist() == [0, 1, 2]
    import numpy as np

    assert clusters(6, np.array([[4, 2], [5, 4], [1, 0]])).tolist() == [0, 0, 2, 3, 2, 2]
