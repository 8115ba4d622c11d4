"""When something is taken out, and what stays: the course over the steps, scores and floors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import SpecError
from stillhouse.passes.distill.prune.config import PruneConfig, course_of
from stillhouse.passes.distill.prune.importance import floors, kept, lamp
from stillhouse.passes.distill.stopping import EarlyStopping


def test_the_course_by_hand():
    course = course_of(PruneConfig(weights=0.8, recovery=0.5), steps=20, warmup=0.1)
    assert (course.begin, course.end) == (2, 10)
    shares = [course.after(step) for step in range(20)]
    assert shares[:2] == [None, None]
    assert shares[10:] == [None] * 10
    assert shares[2:10] == pytest.approx([1 - (1 - n / 8) ** 3 for n in range(1, 9)])


@given(st.integers(1, 5000), st.floats(0, 0.99), st.floats(0, 1))
def test_all_is_out_when_the_recovery_begins_and_it_is_never_less_than_before(steps, recovery, warmup):
    config = PruneConfig(heads=0.5, recovery=recovery)
    try:
        course = course_of(config, steps, warmup)
    except SpecError as error:
        assert error.problem.field == "spec.distill.stages[].prune.recovery"
        return
    shares = [share for step in range(steps) if (share := course.after(step)) is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) <= 200
    assert course.after(course.end - 1) == 1.0


@pytest.mark.parametrize(("end", "epochs"), [(1, 0), (7, 0), (8, 1), (14, 1), (15, 2)])
def test_epochs_before_everything_is_out_do_not_count(end, epochs):
    course = course_of(PruneConfig(heads=0.5, recovery=(28 - end) / 28), steps=28, warmup=0.0)
    assert course.end == end
    assert course.settled(per_epoch=7) == epochs


def test_the_best_epoch_is_one_in_which_everything_is_out():
    early, figures = EarlyStopping(patience=2), [0.9, 0.8, 0.5, 0.6, 0.55, 0.54]
    assert early.best(figures, 2) == 4
    assert [early.over(figures[:n], 2) for n in range(7)] == [False] * 6 + [True]


def test_lamp_by_hand():
    # Squares 1, 4, 9: over 14, 13, 9.
    assert torch.allclose(lamp(torch.tensor([[2.0, -1.0, 3.0]])), torch.tensor([[4 / 13, 1 / 14, 1.0]]))
    assert torch.equal(lamp(torch.zeros(2, 2)), torch.zeros(2, 2))


def test_scales_do_not_matter_to_lamp():
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(lamp(weight), lamp(weight * 1000), rtol=1e-4)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.floats(0.01, 0.99), st.integers(0, 99))
def test_so_many_are_out_as_were_asked_for_and_no_layer_is_empty(counts, ratio, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(count, generator=generator) * 10**number for number, count in enumerate(counts)]
    least, out = floors(counts, None), round(ratio * sum(counts))
    stays = kept(scores, out, least)
    assert all(int(each.sum()) >= 1 for each in stays)
    assert sum(int((~each).sum()) for each in stays) == min(out, sum(counts) - len(counts))
    for each, score in zip(stays, scores, strict=True):
        assert score[each].min() >= score[~each].max() if (~each).any() else True


def test_a_matrix_keeps_a_tenth_of_the_common_share():
    assert floors([1000, 5], 0.9) == [10, 1]
