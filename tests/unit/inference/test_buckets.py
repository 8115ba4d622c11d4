from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.inference.buckets import BucketPolicy, padded_tokens, split

LENGTHS = st.lists(st.integers(1, 512), max_size=40)
POLICIES = st.builds(
    BucketPolicy,
    overhead=st.floats(0, 200),
    knee=st.integers(1, 2048),
    excess=st.floats(0, 3),
    max_rows=st.integers(1, 40),
)


def total(lengths: list[int], buckets: list[list[int]], policy: BucketPolicy) -> float:
    return sum(policy.cost(len(bucket), max(lengths[i] for i in bucket)) for bucket in buckets)


@given(LENGTHS, POLICIES)
def test_every_text_once_short_ones_first(lengths: list[int], policy: BucketPolicy) -> None:
    buckets = split(lengths, policy)
    flat = [index for bucket in buckets for index in bucket]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[index] for index in flat] == sorted(lengths)
    assert all(1 <= len(bucket) <= policy.max_rows for bucket in buckets)
    assert split(lengths, policy) == buckets


@settings(max_examples=60)
@given(st.lists(st.integers(1, 128), min_size=1, max_size=8), POLICIES)
def test_no_contiguous_split_is_cheaper(lengths: list[int], policy: BucketPolicy) -> None:
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    cheapest = float("inf")
    for count in range(len(order)):
        for cuts in combinations(range(1, len(order)), count):
            edges = [0, *cuts, len(order)]
            parts = [order[a:b] for a, b in pairwise(edges)]
            if all(len(part) <= policy.max_rows for part in parts):
                cheapest = min(cheapest, total(lengths, parts, policy))
    assert total(lengths, split(lengths, policy), policy) == pytest.approx(cheapest)


@given(LENGTHS)
def test_padding_never_exceeds_that_of_one_batch(lengths: list[int]) -> None:
    policy = BucketPolicy(max_rows=64)
    buckets = split(lengths, policy)
    assert sum(lengths) <= padded_tokens(lengths, buckets) <= len(lengths) * max(lengths, default=0)


def test_lengths_far_apart_run_apart_and_equal_ones_together() -> None:
    assert split([10, 100, 10, 100], BucketPolicy(knee=1000)) == [[0, 2], [1, 3]]
    assert split([10, 11, 12], BucketPolicy()) == [[0, 1, 2]]
    assert split([], BucketPolicy()) == []


def test_a_dear_run_makes_larger_buckets() -> None:
    lengths = list(range(5, 65, 5))
    cheap = split(lengths, BucketPolicy(overhead=0, excess=0))
    dear = split(lengths, BucketPolicy(overhead=500, excess=0))
    assert len(cheap) == len(lengths)
    assert len(dear) == 1


@pytest.mark.parametrize("wrong", [{"overhead": -1}, {"knee": 0}, {"excess": -0.1}, {"max_rows": 0}])
def test_a_policy_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a bucket policy needs"):
        BucketPolicy(**wrong)  # type: ignore[arg-type]
