"""Weights, temperatures and turns over the steps of a stage, and when it ends early."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.distill.losses import build_losses
from stillhouse.passes.distill.losses.base import Course, LossConfig
from stillhouse.passes.distill.losses.term import Sizes, Targets
from stillhouse.passes.distill.objective import Objective, Part, along
from stillhouse.passes.distill.stopping import EarlyStopping
from stillhouse.passes.models.network import NetworkOutput

SIZES = Sizes(3, 4, 6, {2: 5, 4: 5, 6: 5})  # teacher layers 2, 4, 6 are the student's 1, 2, 3


def objective(losses, progressive=None):
    configs = [LossConfig(**loss) for loss in losses]
    terms = build_losses(configs, SIZES)
    parts = [Part(config.kind, config.weight, term, config.weight_course) for config, term in zip(configs, terms, strict=True)]
    return Objective(parts, progressive)


def test_a_line_and_half_a_cosine_by_hand():
    line, wave = Course(to=1.0), Course(to=1.0, shape="cosine")
    assert [along(5.0, line, step, 5) for step in range(5)] == [5.0, 4.0, 3.0, 2.0, 1.0]
    found = [along(5.0, wave, step, 5) for step in range(5)]
    assert found == pytest.approx([5.0, 5 - 2 * (1 - math.sqrt(0.5)), 3.0, 5 - 2 * (1 + math.sqrt(0.5)), 1.0])
    assert along(5.0, None, 3, 5) == 5.0
    assert along(5.0, line, 0, 1) == 5.0, "a stage of one step has no way to go"


@given(start=st.floats(0, 100), to=st.floats(0, 100), steps=st.integers(2, 200), shape=st.sampled_from(["linear", "cosine"]))
def test_a_course_begins_and_ends_where_it_says_and_never_turns(start, to, steps, shape):
    values = [along(start, Course(to=to, shape=shape), step, steps) for step in range(steps)]
    assert values[0] == pytest.approx(start, abs=1e-9)
    assert values[-1] == pytest.approx(to, abs=1e-9)
    rising = [b >= a - 1e-9 for a, b in itertools.pairwise(values)]
    falling = [b <= a + 1e-9 for a, b in itertools.pairwise(values)]
    assert all(rising) or all(falling)


def test_weight_and_temperature_of_a_step_follow_from_the_step_alone():
    made = objective(
        [{"kind": "logits", "temperature": 4, "alpha": 1, "weightCourse": {"to": 0}, "temperatureCourse": {"to": 2}}]
    )
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])

    def at(step):
        made.begin(step, 3)
        return made(NetworkOutput(student), Targets({"logits": teacher}, None))

    first, middle, last, again = at(0), at(1), at(2), at(0)
    for (total, term), weight, temperature in ((first, 1.0, 4.0), (middle, 0.5, 3.0), (last, 0.0, 2.0)):
        (plain,) = build_losses([LossConfig(kind="logits", temperature=temperature, alpha=1)], SIZES)
        expected = plain(NetworkOutput(student), Targets({"logits": teacher}, None)).item()
        assert term.item() == pytest.approx(expected)
        assert total.item() == pytest.approx(weight * expected)
    assert again[0].item() == first[0].item(), "a run that goes on is where it was"


def turns(progressive, losses, steps):
    made = objective(losses, progressive)
    out = []
    for step in range(steps):
        made.begin(step, steps)
        out.append("".join("x" if weight else "-" for weight in made.weights))
    return out


LAYERS = [{"kind": "hidden", "layer": 6}, {"kind": "embedding"}, {"kind": "hidden", "layer": 2}, {"kind": "hidden", "layer": 4}]


def test_layer_by_layer_from_low_to_high():
    assert turns("alone", LAYERS, 8) == ["--x-", "--x-", "---x", "---x", "x---", "x---", "-x--", "-x--"]
    assert turns("stacked", LAYERS, 4) == ["--x-", "--xx", "x-xx", "xxxx"]
    assert turns(None, LAYERS, 2) == ["xxxx", "xxxx"]
    assert turns("alone", [LAYERS[0], LAYERS[2]], 3) == ["-x", "-x", "x-"], "no turn for outputs that no loss speaks of"


def test_a_term_that_is_not_its_turns_moves_nothing():
    made = objective([{"kind": "hidden", "layer": 2}, {"kind": "embedding"}], "alone")
    made.begin(0, 2)
    output, state = torch.randn(2, 3, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    states = (torch.zeros(2, 4), state, torch.zeros(2, 4), torch.zeros(2, 4))
    total, hidden, embedding = made(
        NetworkOutput(output, states), Targets({"embedding": torch.ones(2, 3), "hidden-2": torch.ones(2, 5)}, None)
    )
    total.backward()
    assert total.item() == pytest.approx(hidden.item())
    assert embedding.item() > 0, "it is still on record"
    assert output.grad is None
    assert state.grad.abs().sum() > 0


def test_more_turns_than_steps_are_refused():
    with pytest.raises(SpecError) as caught:
        objective(LAYERS, "alone").check(3)
    assert (caught.value.problem.field, caught.value.problem.found) == ("spec.distill.stages[].epochs", "3 steps")
    objective(LAYERS, "alone").check(4)
    objective(LAYERS).check(1)


def test_what_is_no_number_names_its_step():
    made = objective([{"kind": "embedding", "distance": "mse"}])
    made.begin(41, 100)
    with pytest.raises(DataError, match="step 42 of 100") as caught:
        made(NetworkOutput(torch.tensor([[float("nan")]])), Targets({"embedding": torch.ones(1, 1)}, None))
    assert caught.value.problem.found == "embedding nan"


@pytest.mark.parametrize(
    ("figures", "patience", "gain", "best", "over"),
    [
        ([], 1, 0, 0, False),
        ([0.5], 1, 0, 1, False),
        ([0.5, 0.5], 1, 0, 1, True),
        ([0.5, 0.4, 0.6], 2, 0, 3, False),
        ([0.5, 0.4, 0.3], 2, 0, 1, True),
        ([0.5, 0.55, 0.58], 2, 0.1, 1, True),  # each a little: never more than 0.1 better than the best
        ([0.5, 0.55, 0.61], 2, 0.1, 3, False),
    ],
)
def test_when_to_end(figures, patience, gain, best, over):
    rule = EarlyStopping(patience=patience, minGain=gain)
    assert (rule.best(figures), rule.over(figures)) == (best, over)
