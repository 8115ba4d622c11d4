"""Metrics against what they are defined as: written out slowly, computed by hand, or by scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score

from stillhouse.errors import DataError
from stillhouse.passes.evaluate.intervals import Share
from stillhouse.passes.evaluate.metrics import Floats, Outputs, evaluate, macro_f1, overlap_at_k
from stillhouse.passes.evaluate.verdict import compare
from stillhouse.passes.ranking import ranks, reciprocal


def unit(rng: np.random.Generator, rows: int, dimension: int = 8) -> Floats:
    values = rng.normal(size=(rows, dimension))
    found: Floats = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return found


def shares(rng: np.random.Generator, rows: int, classes: int) -> Floats:
    return rng.dirichlet(np.ones(classes), rows).astype(np.float32)


def truth_of(rng: np.random.Generator, rows: int, classes: int) -> npt.NDArray[np.int64]:
    return rng.integers(0, classes, rows).astype(np.int64)


def value(
    name: str, student: Outputs, teacher: Outputs | None = None, truth: npt.NDArray[np.int64] | None = None, **more: bool
) -> float:
    return evaluate(name, student, teacher, truth, relative=more.get("relative", False)).estimate


# retrieval --------------------------------------------------------------------------------------------------------------


def slow_rank(query: Floats, document: Floats, row: int) -> int:
    own = float(query[row] @ document[row])
    return 1 + sum(float(query[row] @ document[other]) >= own for other in range(len(document)) if other != row)


@pytest.mark.parametrize("rows", [1, 2, 40, 513, 1100])
def test_ranks_are_those_of_a_plain_search(rows: int) -> None:
    """More rows than a block: the blocks' edges count, too."""
    rng = np.random.default_rng(rows)
    document = unit(rng, rows)
    query = document + rng.normal(scale=0.4, size=document.shape).astype(np.float32)
    found = ranks(query, document)
    order = np.argsort(-(query.astype(np.float64) @ document.T.astype(np.float64)), axis=1)
    expected = np.array([int(np.where(order[row] == row)[0][0]) + 1 for row in range(rows)])
    np.testing.assert_array_equal(found, expected)
    for row in range(0, rows, max(1, rows // 20)):
        assert found[row] == slow_rank(query, document, row)


def test_ties_count_against_the_model() -> None:
    """A model that gives everything the same vector has found nothing: every document is as near as the right one."""
    same = np.ones((5, 2), dtype=np.float32) / np.float32(math.sqrt(2))
    assert list(ranks(same, same)) == [5] * 5
    assert value("mrr@10", Outputs(query=same, document=same)) == pytest.approx(0.2)
    assert value("mrr@4", Outputs(query=same, document=same)) == 0.0


def test_a_zero_vector_wins_nothing() -> None:
    zero = np.zeros((4, 3), dtype=np.float32)
    assert list(ranks(zero, zero)) == [4] * 4


def test_mrr_by_hand() -> None:
    """Ranks 1, 2 and 3: (1 + 1/2 + 1/3) / 3, and with a cut at 2 the last one counts nothing."""
    document = np.eye(3, dtype=np.float32)
    query = np.array([[1, 0, 0], [0.9, 0.5, 0], [0.9, 0.8, 0.5]], dtype=np.float32)
    assert list(ranks(query, document)) == [1, 2, 3]
    outputs = Outputs(query=query, document=document)
    assert value("mrr@10", outputs) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert value("mrr@2", outputs) == pytest.approx((1 + 1 / 2) / 3)
    assert value("mrr@1", outputs) == pytest.approx(1 / 3)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 40))
def test_reciprocal_ranks_are_cut_at_k(found: list[int], k: int) -> None:
    expected = [1 / rank if rank <= k else 0.0 for rank in found]
    np.testing.assert_allclose(reciprocal(np.array(found), k), expected)


def test_mrr_of_the_teacher_is_the_share_on_the_same_rows() -> None:
    rng = np.random.default_rng(2)
    document = unit(rng, 300)
    teacher = Outputs(query=document + rng.normal(scale=0.2, size=document.shape).astype(np.float32), document=document)
    student = Outputs(query=document + rng.normal(scale=0.5, size=document.shape).astype(np.float32), document=document)
    share = evaluate("mrr@10", student, teacher, None, relative=True)
    assert share.estimate == pytest.approx(value("mrr@10", student) / value("mrr@10", teacher))
    assert share.low < share.estimate < share.high
    assert value("mrr@10", teacher, teacher, relative=True) == 1.0


@pytest.mark.parametrize("name", ["accuracy", "macro-f1", "log-loss"])
def test_a_share_of_the_teacher_has_both_figures_beside_it(name: str) -> None:
    truth = np.tile(np.array([0, 0, 1, 1], dtype=np.int64), 20)
    teacher = Outputs(probabilities=np.eye(2, dtype=np.float32)[np.tile([0, 0, 1, 0], 20)])
    student = Outputs(probabilities=np.eye(2, dtype=np.float32)[np.tile([0, 1, 1, 0], 20)])
    share = evaluate(name, student, teacher, truth, relative=True)
    assert isinstance(share, Share)
    assert share.student == evaluate(name, student, None, truth, relative=False)
    assert share.teacher == evaluate(name, teacher, None, truth, relative=False)
    assert share.teacher.low < share.teacher.estimate < share.teacher.high
    assert (share.student.estimate, share.teacher.estimate) == (
        value(name, student, truth=truth),
        value(name, teacher, truth=truth),
    )
    assert share.estimate == pytest.approx(share.student.estimate / share.teacher.estimate)


def test_pairing_makes_a_share_sharper_than_its_parts() -> None:
    """Hard queries are hard for both; resampling the same rows for both must use that."""
    rng = np.random.default_rng(4)
    document = unit(rng, 400)
    query = document + rng.normal(scale=0.5, size=document.shape).astype(np.float32)
    near = query + rng.normal(scale=0.01, size=document.shape).astype(np.float32)
    teacher, student = Outputs(query=query, document=document), Outputs(query=near, document=document)
    share = evaluate("mrr@10", student, teacher, None, relative=True)
    alone = evaluate("mrr@10", student, None, None, relative=False)
    assert (share.high - share.low) / share.estimate < 0.5 * (alone.high - alone.low) / alone.estimate


def test_cosine_is_the_mean_over_everything_that_was_embedded() -> None:
    rng = np.random.default_rng(5)
    student = Outputs(query=unit(rng, 20), document=unit(rng, 20))
    teacher = Outputs(query=unit(rng, 20), document=unit(rng, 20))
    assert student.query is not None
    assert student.document is not None
    assert teacher.query is not None
    assert teacher.document is not None
    expected = np.mean([*(student.query * teacher.query).sum(axis=1), *(student.document * teacher.document).sum(axis=1)])
    found = evaluate("cosine", student, teacher, None, relative=False)
    assert found.estimate == pytest.approx(float(expected), abs=1e-6)
    assert found.n == 40
    assert value("cosine", teacher, teacher) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("rows", [2, 30, 600])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_the_overlap_is_that_of_a_plain_search(rows: int, k: int) -> None:
    rng = np.random.default_rng(rows + k)
    teacher = unit(rng, rows)
    student = teacher + rng.normal(scale=0.2, size=teacher.shape).astype(np.float32)
    found = overlap_at_k(student, teacher, k)
    wanted = min(k, rows - 1)
    for row in range(0, rows, max(1, rows // 25)):
        near = []
        for space in (student, teacher):
            order = [int(other) for other in np.argsort(-(space @ space[row])) if other != row]
            near.append(set(order[:wanted]))
        assert found[row] == pytest.approx(len(near[0] & near[1]) / wanted)


def test_the_overlap_with_itself_is_whole_and_with_chance_is_k_of_n() -> None:
    rng = np.random.default_rng(9)
    teacher = unit(rng, 500, 16)
    assert value("neighbour-overlap@10", Outputs(text=teacher), Outputs(text=teacher)) == 1.0
    chance = value("neighbour-overlap@10", Outputs(text=unit(rng, 500, 16)), Outputs(text=teacher))
    assert chance == pytest.approx(10 / 499, abs=0.01)


def test_a_space_may_be_turned_without_losing_neighbours() -> None:
    rng = np.random.default_rng(10)
    teacher = unit(rng, 100, 6)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    turned = (teacher @ turn).astype(np.float32)
    assert value("neighbour-overlap@5", Outputs(text=turned), Outputs(text=teacher)) > 0.99
    assert value("cosine", Outputs(text=turned), Outputs(text=teacher)) < 0.9


# classification ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 10**6))
def test_macro_f1_is_scikit_learns(rows: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = truth_of(rng, rows, classes), truth_of(rng, rows, classes)
    assert macro_f1(truth, guess, classes) == pytest.approx(f1_score(truth, guess, average="macro"))


def test_macro_f1_by_hand() -> None:
    """Class 0: P 1/2, R 1 → 2/3. Class 1: P 1, R 1/2 → 2/3. Class 2 occurs nowhere and does not count."""
    truth, guess = np.array([0, 1, 1]), np.array([0, 0, 1])
    assert macro_f1(truth, guess, 3) == pytest.approx(2 / 3)


def test_a_class_that_is_never_guessed_counts_as_zero() -> None:
    assert macro_f1(np.array([0, 0, 1]), np.array([0, 0, 0]), 2) == pytest.approx((0.8 + 0) / 2)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_accuracy_f1_and_log_loss_are_scikit_learns(classes: int) -> None:
    rng = np.random.default_rng(classes)
    outputs, truth = Outputs(probabilities=shares(rng, 200, classes)), truth_of(rng, 200, classes)
    assert outputs.probabilities is not None
    guess = outputs.probabilities.argmax(axis=1)
    assert value("accuracy", outputs, None, truth) == pytest.approx(accuracy_score(truth, guess))
    assert value("macro-f1", outputs, None, truth) == pytest.approx(f1_score(truth, guess, average="macro"))
    exact = outputs.probabilities.astype(np.float64)
    expected = log_loss(truth, exact / exact.sum(axis=1, keepdims=True), labels=range(classes))
    assert value("log-loss", outputs, None, truth) == pytest.approx(expected, rel=1e-5)


def test_a_probability_of_zero_for_the_right_label_is_dear_but_finite() -> None:
    outputs = Outputs(probabilities=np.array([[1.0, 0.0], [0.5, 0.5]], dtype=np.float32))
    assert value("log-loss", outputs, None, np.array([1, 0])) == pytest.approx((-math.log(1e-15) + math.log(2)) / 2)


def test_agreement_is_with_the_teacher_not_with_the_labels() -> None:
    student = Outputs(probabilities=np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]], dtype=np.float32))
    teacher = Outputs(probabilities=np.array([[0.6, 0.4], [0.7, 0.3], [0.9, 0.1], [0.8, 0.2]], dtype=np.float32))
    assert value("agreement", student, teacher) == 0.75


def test_the_loss_of_a_class_is_the_largest_drop_of_recall() -> None:
    rng = np.random.default_rng(1)
    truth = truth_of(rng, 300, 4)
    student, teacher = Outputs(probabilities=shares(rng, 300, 4)), Outputs(probabilities=shares(rng, 300, 4))
    assert student.probabilities is not None
    assert teacher.probabilities is not None
    drops = recall_score(truth, teacher.probabilities.argmax(1), average=None) - recall_score(
        truth, student.probabilities.argmax(1), average=None
    )
    found = evaluate("per-class-loss", student, teacher, truth, relative=False)
    assert found.estimate == pytest.approx(drops.max())
    # The largest of several noisy drops is biased upwards in samples: the interval must hold the estimate all the same.
    assert found.low <= found.estimate <= found.high


def test_a_class_without_rows_has_no_recall_to_lose() -> None:
    student = Outputs(probabilities=np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]], dtype=np.float32))
    teacher = Outputs(probabilities=np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], dtype=np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert value("per-class-loss", student, teacher, np.array([0, 1])) == 1.0


@pytest.mark.parametrize("name", ["accuracy", "macro-f1", "log-loss"])
def test_shares_of_the_teachers_figure(name: str) -> None:
    rng = np.random.default_rng(6)
    truth = truth_of(rng, 120, 3)
    student, teacher = Outputs(probabilities=shares(rng, 120, 3)), Outputs(probabilities=shares(rng, 120, 3))
    expected = value(name, student, None, truth) / value(name, teacher, None, truth)
    assert value(name, student, teacher, truth, relative=True) == pytest.approx(expected)


# what cannot be measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mrr@10", "cosine", "neighbour-overlap@5"])
def test_embeddings_that_are_not_numbers_never_pass(name: str) -> None:
    """Half precision or a broken quantization gives NaN; a comparison with NaN is false, also the one that would fail it."""
    rng = np.random.default_rng(1)
    good, broken = unit(rng, 20), unit(rng, 20)
    broken[3, 2] = np.nan
    found = evaluate(name, Outputs(query=broken, document=good), Outputs(query=good, document=good), None, relative=False)
    assert compare(name, "min", 0.0, found).outcome == "failed"
    assert list(ranks(np.full_like(good, np.nan), good)) == [20] * 20


@pytest.mark.parametrize(("name", "sense"), [("accuracy", "min"), ("agreement", "min"), ("log-loss", "max")])
def test_probabilities_that_are_not_numbers_never_pass(name: str, sense: str) -> None:
    broken = Outputs(probabilities=np.full((4, 2), np.nan, dtype=np.float32))
    teacher = Outputs(probabilities=np.array([[1.0, 0.0]] * 4, dtype=np.float32))
    found = evaluate(name, broken, teacher, np.zeros(4, dtype=np.int64), relative=False)
    assert compare(name, sense, 0.0 if sense == "min" else 1e9, found).outcome == "failed"  # type: ignore[arg-type]


def test_a_share_of_nothing_is_an_error_with_a_way_out() -> None:
    document = np.eye(3, dtype=np.float32)
    hopeless = Outputs(query=np.roll(document, 1, axis=0), document=document)
    with pytest.raises(DataError, match="teacher's own figure is 0") as refused:
        evaluate("mrr@1", Outputs(query=document, document=document), hopeless, None, relative=True)
    assert refused.value.problem.field == "spec.gate.metrics"
    assert "of: teacher" in refused.value.problem.fix


def test_samples_in_which_the_teacher_has_nothing_are_left_out() -> None:
    document = np.eye(4, dtype=np.float32)
    wrong = np.roll(document, 1, axis=0)
    teacher = Outputs(query=np.concatenate([document[:1], wrong[1:]]), document=document)
    found = evaluate("mrr@1", teacher, teacher, None, relative=True)
    assert found.estimate == 1.0
    assert found.low == pytest.approx(0.025**0.25), "every sample agrees; what four pairs do not show may differ"


NEEDS = [
    ("cosine", Outputs(text=np.eye(2, dtype=np.float32)), None, None),
    ("mrr@10", Outputs(text=np.eye(2, dtype=np.float32)), None, None),
    ("accuracy", Outputs(probabilities=np.eye(2, dtype=np.float32)), None, None),
    ("log-loss", Outputs(probabilities=np.eye(2, dtype=np.float32)), None, None),
    ("per-class-loss", Outputs(probabilities=np.eye(2, dtype=np.float32)), None, np.array([0, 1])),
    ("agreement", Outputs(probabilities=np.eye(2, dtype=np.float32)), None, None),
    ("accuracy", Outputs(text=np.eye(2, dtype=np.float32)), None, np.array([0, 1])),
    ("neighbour-overlap@5", Outputs(text=np.eye(1, dtype=np.float32)), Outputs(text=np.eye(1, dtype=np.float32)), None),
    ("cosine", Outputs(text=np.eye(3, dtype=np.float32)), Outputs(text=np.eye(4, dtype=np.float32)[:3]), None),
    ("cosine", Outputs(text=np.eye(3, dtype=np.float32)), Outputs(query=np.eye(3, dtype=np.float32)), None),
    ("neighbour-overlap@2", Outputs(text=np.eye(3, dtype=np.float32)), Outputs(query=np.eye(3, dtype=np.float32)), None),
    ("mrr@10", Outputs(), None, None),
]


@pytest.mark.parametrize(("name", "student", "teacher", "truth"), NEEDS, ids=[f"{n}-{each[0]}" for n, each in enumerate(NEEDS)])
def test_what_is_missing_is_named(
    name: str, student: Outputs, teacher: Outputs | None, truth: npt.NDArray[np.int64] | None
) -> None:
    with pytest.raises(DataError) as refused:
        evaluate(name, student, teacher, truth, relative=False)
    assert refused.value.problem.field.startswith("spec.gate")
