"""Which rows make which step, and how fast each step learns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.passes.distill.schedule import epoch_batches, grouped_batches, learning_rate, steps_per_epoch


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=300),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 50),
)
def test_an_epoch_holds_every_row_once_and_is_a_function_of_seed_and_epoch(lengths, size, seed, epoch):
    array = np.array(lengths, dtype=np.int64)
    batches = epoch_batches(array, size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == steps_per_epoch(len(lengths), size)
    assert max(map(len, batches)) <= size
    again = epoch_batches(array, size, seed, epoch)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]


@given(
    weights=st.lists(st.floats(0, 1e300), min_size=1, max_size=300).filter(any),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 50),
)
def test_rows_with_weights_come_as_often_as_their_share_says_and_as_a_function_of_seed_and_epoch(weights, size, seed, epoch):
    array = np.array(weights) / max(weights)
    lengths = np.ones(len(array), np.int64)
    batches = epoch_batches(lengths, size, seed, epoch, array)
    assert [len(batch) for batch in batches].count(size) >= len(array) // size
    rows = np.concatenate(batches)
    assert len(rows) == len(array)
    share = array / array.sum() * len(array)
    assert (np.abs(np.bincount(rows, minlength=len(array)) - share) < 1 + 1e-6).all()
    assert not (array[rows] == 0).any()
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in epoch_batches(lengths, size, seed, epoch, array)]


def test_equal_weights_are_none_and_others_are_met_over_epochs():
    lengths = np.ones(500, np.int64)
    once = np.concatenate(epoch_batches(lengths, 16, 1, 0, np.full(500, 1.0)))
    assert sorted(once.tolist()) == list(range(500))
    weights = np.random.Generator(np.random.PCG64(2)).random(500) ** 4
    epochs = [np.bincount(np.concatenate(epoch_batches(lengths, 16, 1, epoch, weights)), minlength=500) for epoch in range(200)]
    assert len({tuple(each) for each in epochs}) == 200
    assert np.abs(np.mean(epochs, axis=0) - weights / weights.sum() * 500).max() < 0.15


@given(
    groups=st.lists(st.integers(-1, 40), min_size=1, max_size=300),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 50),
)
def test_grouped_batches_hold_every_row_once_and_part_a_group_only_where_a_batch_ends(groups, size, seed, epoch):
    array = np.array(groups, dtype=np.int64)
    batches = grouped_batches(array, size, seed, epoch)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(groups)))
    assert len(batches) == steps_per_epoch(len(groups), size)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in grouped_batches(array, size, seed, epoch)]
    for group in set(groups) - {-1}:
        places = np.flatnonzero(array[order] == group)
        assert places.max() - places.min() == len(places) - 1


def test_grouped_batches_come_in_another_order_every_epoch():
    groups = np.repeat(np.arange(100, dtype=np.int64), 2)
    assert len({tuple(np.concatenate(grouped_batches(groups, 16, 1, epoch)).tolist()) for epoch in range(4)}) == 4


def test_epochs_and_seeds_give_other_orders():
    lengths = np.arange(1, 301, dtype=np.int64)
    orders = {tuple(np.concatenate(epoch_batches(lengths, 16, seed, epoch)).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_batches_hold_rows_of_similar_length():
    lengths = np.random.Generator(np.random.PCG64(1)).integers(3, 130, 4096)
    padded = sum(len(batch) * lengths[batch].max() for batch in epoch_batches(lengths, 32, 7, 0))
    unsorted = sum(32 * lengths[first : first + 32].max() for first in range(0, 4096, 32))
    assert padded < 1.08 * lengths.sum()  # under 8 % padding, where batches in any order have over 80 %
    assert unsorted > 1.8 * lengths.sum()


def test_the_rate_climbs_to_its_peak_then_falls_as_a_cosine():
    rates = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)  # half-way through the other 90 steps
    assert 0.0 < rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 1.0), (3, 1.0), (1, 0.05)])
def test_the_shortest_runs_have_a_rate_too(steps, warmup):
    assert all(0.0 < learning_rate(step, steps, warmup) <= 1.0 for step in range(steps))
