"""A teacher's largest logits: what is kept, what the student is told, and what does not fit."""

import numpy as np
import pytest
import torch
from tests.support.artifacts import dataset, sentences, tiny_teacher
from tests.support.lessons import STAGE, go

from stillhouse.errors import SpecError
from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.distill.top_logits import shorten, whole
from stillhouse.passes.distill.train import Distill

LABELS = tuple(f"label-{number}" for number in range(12))
SHAPE = {"hiddenLayers": 1, "hiddenSize": 16, "attentionHeads": 2, "intermediateSize": 32, "seed": 3}


def logits_of(seed, rows, labels):
    return np.random.default_rng(seed).normal(scale=2.0, size=(rows, labels)).astype(np.float32)


def back(logits, top):
    kept = {name: torch.from_numpy(values) for name, values in shorten(logits, top).items()}
    return whole(kept, logits.shape[1]).double().numpy()


@pytest.mark.parametrize("top", [1, 3, 11])
def test_probabilities_of_the_kept_and_the_mass_of_the_rest_are_the_teachers(top):
    logits = logits_of(1, 20, 12)
    made = back(logits, top)
    for before, after in zip(logits.astype(np.float64), made, strict=True):
        largest = sorted(range(12), key=lambda c: -before[c])[:top]
        rest = [c for c in range(12) if c not in largest]
        p, q = (np.exp(z) / sum(np.exp(z)) for z in (before, after))
        assert np.allclose(p[largest], q[largest], atol=2e-3)  # float16 in the file
        assert sum(p[rest]) == pytest.approx(sum(q[rest]), abs=2e-3)
        assert np.ptp(after[rest]) == 0.0


def test_with_all_but_one_nothing_is_lost():
    logits = logits_of(2, 20, 5)
    assert np.allclose(back(logits, 4), logits, rtol=2**-11, atol=1e-5)


def test_rows_that_are_sure_beyond_all_numbers_stay_finite():
    logits = np.array([[900.0, -900.0, -900.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    assert np.isfinite(back(logits, 1)).all()
    assert back(logits, 1)[1] == pytest.approx([0.0] * 3, abs=1e-6)


def test_many_labels_have_room_for_their_numbers():
    logits = np.zeros((1, 40_000), dtype=np.float32)
    logits[0, 39_999] = 9.0
    assert shorten(logits, 2)["logits-classes"].tolist() == [[39_999, 0]]


def test_a_student_learns_from_them_out_of_a_smaller_cache(tmp_path):
    judge = tiny_teacher(tmp_path / "teacher", LABELS)
    data = dataset(tmp_path / "data", text=sentences(50, seed=1))
    inputs = {"teacher": judge, "data": data}
    outputs = {
        top: go(
            TeacherOutputs(),
            {"outputs": ["logits"], "maxLength": 32, **({"topLogits": top} if top else {})},
            inputs,
            tmp_path / f"outputs-{top}",
        )[0]
        for top in (None, 3, 11)
    }
    size = {top: sum(tensor.nbytes for tensor in read_outputs(each.path)[0].values()) for top, each in outputs.items()}
    assert size[None] == 50 * 12 * 4
    assert size[3] == 50 * (3 * 2 + 3 * 2 + 4)
    student, _ = go(InitStudent(), SHAPE, inputs, tmp_path / "student")
    said = {}
    for top, each in outputs.items():
        losses = [{"kind": "jsd"}, {"kind": "logits", "alpha": 1}]
        given = {**inputs, "student": student, "outputs": each}
        _, facts = go(Distill(), {**STAGE, "losses": losses}, given, tmp_path / f"run-{top}")
        assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]
        said[top] = facts["curve"][0]["terms"]
    assert said[11] == pytest.approx(said[None], rel=0.02)


@pytest.mark.parametrize("top", [12, 400])
def test_no_fewer_than_there_are_is_refused(tmp_path, top):
    judge = tiny_teacher(tmp_path / "teacher", LABELS)
    data = dataset(tmp_path / "data", text=sentences(3, seed=1))
    with pytest.raises(SpecError) as caught:
        go(TeacherOutputs(), {"outputs": ["logits"], "topLogits": top}, {"teacher": judge, "data": data}, tmp_path / "run")
    problem = caught.value.problem
    assert (problem.field, problem.found) == ("spec.distill.topLogits", str(top))
    assert problem.allowed.startswith("1 to 11")
    assert "topLogits: 11" in problem.fix
