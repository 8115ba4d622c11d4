"""The losses against values worked out by hand and against their published properties."""

import math

import pytest
import torch

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.distill.losses import build_losses, needed_outputs
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.layered import student_layer
from stillhouse.passes.distill.losses.logits import soft_targets
from stillhouse.passes.distill.losses.term import Sizes, Targets
from stillhouse.passes.models.network import NetworkOutput

NONE = Sizes(0, 0, 0, {})


def value(loss, output, teacher=None, labels=None, sizes=NONE, hidden=(), keys=None, groups=None):
    (term,) = build_losses([LossConfig(**loss)], sizes)
    targets = Targets(
        teacher or {},
        None if labels is None else torch.tensor(labels),
        keys,
        None if groups is None else torch.tensor(groups),
    )
    return term(NetworkOutput(torch.tensor(output) if isinstance(output, list) else output, hidden), targets)


def test_embedding_cosine_and_mse():
    student = [[1.0, 0.0], [0.6, 0.8]]
    teacher = {"embedding": torch.tensor([[0.0, 1.0], [0.6, 0.8]])}
    assert value({"kind": "embedding"}, student, teacher).item() == pytest.approx(0.5)  # (1 − 0 + 1 − 1) / 2
    assert value({"kind": "embedding", "distance": "mse"}, student, teacher).item() == pytest.approx(1.0)  # (2 + 0) / 2


def test_similarity_mse_counts_pairs_and_not_the_diagonal():
    student = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]  # similarities 0, 1, 0
    teacher = {"embedding": torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])}  # 1, 0, 0
    found = value({"kind": "similarity", "distance": "mse"}, student, teacher)
    assert found.item() == pytest.approx(2 / 3)  # pairs (0,1) and (0,2) differ by 1, (1,2) by 0


def test_similarity_as_distributions_by_hand():
    student = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    teacher = {"embedding": torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])}
    found = value({"kind": "similarity", "temperature": 0.5}, student, teacher)
    high, low = math.exp(2) / (math.exp(2) + 1), 1 / (math.exp(2) + 1)
    swapped = high * math.log(high / low) + low * math.log(low / high)  # row 0: (0, 1) asked for as (1, 0)
    row1 = high * math.log(high / 0.5) + low * math.log(low / 0.5)  # row 1: even, asked for as (1, 0)
    row2 = 0.5 * math.log(0.5 / high) + 0.5 * math.log(0.5 / low)  # row 2: (1, 0), asked for as even
    assert found.item() == pytest.approx((swapped + row1 + row2) / 3, rel=1e-5)


def test_similarity_with_keys_compares_with_the_teachers_vectors():
    student, teacher = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    keys = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    config = {"kind": "similarity", "temperature": 0.5, "keys": 2}
    found = value(config, student, {"embedding": teacher}, keys=keys)
    # Row 0: the other row's vector, then the keys; row 1 likewise.
    mine = torch.tensor([[1.0, 0.8, 0.0], [0.8, 0.6 * 0.8 + 0.8 * 0.6, 0.8]]) / 0.5
    theirs = torch.tensor([[0.0, 0.6, 1.0], [0.0, 0.8, 0.0]]) / 0.5
    wanted = (theirs.softmax(1) * (theirs.log_softmax(1) - mine.log_softmax(1))).sum(1).mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    # The teacher's own vectors are the best there is; keys beyond the number asked for are not looked at.
    assert value(config, teacher, {"embedding": teacher}, keys=keys).item() == pytest.approx(0.0, abs=1e-6)
    more = torch.cat([keys, torch.tensor([[-1.0, 0.0]])])
    assert value(config, student, {"embedding": teacher}, keys=more).item() == pytest.approx(found.item())


def test_similarity_of_a_single_row_is_nothing_and_still_has_a_gradient():
    student = torch.tensor([[1.0, 0.0]], requires_grad=True)
    found = value({"kind": "similarity"}, student, {"embedding": torch.tensor([[0.0, 1.0]])})
    found.backward()
    assert found.item() == 0.0
    assert student.grad.abs().sum() == 0.0


def test_contrastive_by_hand():
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    found = value({"kind": "contrastive", "temperature": 0.5}, student, groups=[7, 7, -1, 3])
    # Rows 0 and 1 are partners; row 2 stands alone, row 3's partner is in another batch: both are negatives only.
    first = math.exp(0.6 / 0.5) / (math.exp(0.6 / 0.5) + math.exp(0.0) + math.exp(-1.0 / 0.5))
    second = math.exp(0.6 / 0.5) / (math.exp(0.6 / 0.5) + math.exp(0.8 / 0.5) + math.exp(-0.6 / 0.5))
    assert found.item() == pytest.approx(-(math.log(first) + math.log(second)) / 2, rel=1e-5)
    default = value({"kind": "contrastive"}, student, groups=[7, 7, -1, 3])
    assert default.item() == pytest.approx(
        value({"kind": "contrastive", "temperature": 0.05}, student, groups=[7, 7, -1, 3]).item()
    )


def test_contrastive_with_several_partners_is_their_mean():
    student = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(3)), dim=1)
    groups = [1, 1, 1, 2, 2, -1]
    likely = (student @ student.T / 0.05).fill_diagonal_(-torch.inf).log_softmax(1)
    rows = [(likely[0, 1] + likely[0, 2]) / 2, (likely[1, 0] + likely[1, 2]) / 2, (likely[2, 0] + likely[2, 1]) / 2]
    wanted = -torch.stack([*rows, likely[3, 4], likely[4, 3]]).mean()
    assert value({"kind": "contrastive"}, student, groups=groups).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_contrastive_pulls_partners_together_and_is_nothing_without_any():
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], requires_grad=True)
    found = value({"kind": "contrastive"}, student, groups=[-1, 5, 6])
    found.backward()
    assert found.item() == 0.0
    assert student.grad.abs().sum() == 0.0
    value({"kind": "contrastive"}, student, groups=[4, 4, -1]).backward()
    assert torch.isfinite(student.grad).all()
    assert student.grad[0, 1] < 0 < student.grad[0, 0]  # against the gradient: row 0 turns towards row 1
    with pytest.raises(DataError, match="needs groups"):
        value({"kind": "contrastive"}, student)


def test_soft_targets_by_hand():
    # Teacher (ln 9, 0) at T = 2: (3/4, 1/4); student even: KL = ¾ ln(¾ / ½) + ¼ ln(¼ / ½); times T² = 4.
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(9.0), 0.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert soft_targets(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_of_soft_targets_keep_their_size_when_the_temperature_changes():
    """At high temperature the gradient goes to (z − v) / N, whatever T is (Hinton et al. 2015, equation 4, times T²)."""
    torch.manual_seed(1)
    student, teacher = torch.randn(1, 5, dtype=torch.float64), torch.randn(1, 5, dtype=torch.float64)
    student, teacher = student - student.mean(), teacher - teacher.mean()
    for temperature in (200.0, 2000.0):
        logits = student.clone().requires_grad_()
        soft_targets(logits, teacher, temperature).backward()
        assert torch.allclose(logits.grad, (student - teacher) / 5, atol=0.02)
    exact = student.clone().requires_grad_()
    soft_targets(exact, teacher, 3.0).backward()
    by_hand = 3.0 * (torch.softmax(student / 3, 1) - torch.softmax(teacher / 3, 1))  # T² · (q − p) / T
    assert torch.allclose(exact.grad, by_hand, atol=1e-12)


def test_padded_tokens_count_for_nothing():
    torch.manual_seed(2)
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    kept = soft_targets(student[mask.bool()], teacher[mask.bool()], 3.0)
    student[mask == 0] = float("nan")
    student.requires_grad_()
    masked = soft_targets(student, teacher, 3.0, mask)
    assert masked.item() == pytest.approx(kept.item(), rel=1e-6)


def test_logits_mix_soft_and_hard_by_alpha_with_the_usual_defaults():
    student, teacher = [[0.0, 0.0], [2.0, 0.0]], {"logits": torch.tensor([[3.0, 0.0], [0.0, 1.0]])}
    soft = soft_targets(torch.tensor(student), teacher["logits"], 3.0).item()
    hard = (math.log(2) + math.log(1 + math.exp(2))) / 2
    found = value({"kind": "logits"}, student, teacher, [0, 1])
    assert found.item() == pytest.approx(0.7 * soft + 0.3 * hard, rel=1e-5)


def test_rows_without_a_label_give_the_soft_part_only():
    student, teacher = [[0.0, 0.0], [2.0, 0.0]], {"logits": torch.tensor([[3.0, 0.0], [0.0, 1.0]])}
    soft = soft_targets(torch.tensor(student), teacher["logits"], 3.0).item()
    assert value({"kind": "logits"}, student, teacher, [-100, -100]).item() == pytest.approx(0.7 * soft, rel=1e-5)
    one = value({"kind": "logits"}, student, teacher, [0, -100])
    assert one.item() == pytest.approx(0.7 * soft + 0.3 * math.log(2) / 2, rel=1e-5)
    assert value({"kind": "logits"}, student, teacher).item() == pytest.approx(0.7 * soft, rel=1e-5)


def test_hard_is_cross_entropy_over_labelled_rows():
    student = [[0.0, 0.0], [2.0, 0.0], [5.0, 5.0]]
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert value({"kind": "hard"}, student, labels=[0, 1, -100]).item() == pytest.approx(expected, rel=1e-5)
    assert value({"kind": "hard"}, student, labels=[-100] * 3).item() == 0.0
    with pytest.raises(DataError, match="needs labels"):
        value({"kind": "hard"}, student)


def test_hidden_goes_through_its_learned_projection():
    sizes = Sizes(student_layers=2, student_hidden=2, teacher_layers=6, teacher_hidden={6: 3})
    (term,) = build_losses([LossConfig(kind="hidden", distance="mse")], sizes)
    with torch.no_grad():
        term.projection.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    states = tuple(torch.full((1, 2), float(n)) for n in (0, 1, 2))  # the last layer: (2, 2) → (2, 2, 4)
    targets = Targets({"hidden-6": torch.tensor([[2.0, 2.0, 1.0]])}, None)
    found = term(NetworkOutput(torch.zeros(1, 1), states), targets)
    assert found.item() == pytest.approx(3.0)  # (0 + 0 + 9) / 3
    found.backward()
    assert term.projection.weight.grad.abs().sum() > 0


def test_layers_are_matched_by_depth():
    assert [student_layer(layer, 6, 2) for layer in range(7)] == [0, 1, 1, 1, 1, 2, 2]
    assert [student_layer(layer, 12, 12) for layer in range(13)] == list(range(13))


def test_a_layer_that_was_not_kept_is_refused():
    with pytest.raises(SpecError, match="hidden states on both sides"):
        build_losses([LossConfig(kind="hidden", layer=4)], Sizes(2, 8, 6, {6: 3}))


def test_what_the_losses_need_of_the_teacher():
    losses = [LossConfig(kind=kind) for kind in ("hidden", "similarity", "hard", "contrastive", "embedding")]
    assert needed_outputs(losses) == ("embedding", "hidden")
