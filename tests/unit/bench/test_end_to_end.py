"""What `bench-end-to-end` makes of reciprocal ranks: means, ratios paired by query and seed, and the gap that was closed."""

import numpy as np
import pytest
from bench.end_to_end_quality import closed, kept, mean
from bench.end_to_end_students import CONTROL, HEADLINE, STUDENTS, seeded
from bench.few_students import OWN
from bench.few_students import STUDENTS as FEW

from stillhouse.api.load import load_file


def scores(*levels: float, queries: int = 400) -> np.ndarray:
    """One row a seed: so much of the queries are right, the same ones first."""
    return np.stack([(np.arange(queries) < round(level * queries)).astype(np.float64) for level in levels])


def test_a_ratio_is_of_the_means_and_paired() -> None:
    assert mean(scores(0.5, 0.6)).median == pytest.approx(0.55)
    found = kept(scores(0.6, 0.6), scores(0.5))
    assert found.median == pytest.approx(1.2)
    assert 1.1 < found.low < 1.2 < found.high < 1.4
    same = kept(scores(0.5, 0.6), scores(0.5, 0.6))
    assert (same.low, same.high) == (1.0, 1.0), "not paired"


def test_of_unlike_numbers_of_seeds_only_those_count_that_both_have() -> None:
    assert kept(scores(0.6, 0.4, 0.1), scores(0.5, 0.5)).median == pytest.approx(1.0)
    assert kept(scores(0.5, 0.5), scores(0.6, 0.4, 0.1)).median == pytest.approx(1.0)
    assert kept(scores(0.6, 0.4, 0.2), scores(0.5)).median == pytest.approx(0.8)  # a teacher has no seeds
    assert closed(scores(0.6, 0.6, 0.0), scores(0.5, 0.5), scores(0.7)).median == pytest.approx(0.5)


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_is_a_resource_that_is_accepted(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("bench.end_to_end_students.cache_folder", lambda: tmp_path)
    model = load_file(seeded(STUDENTS[name], 11, hard=name == CONTROL))
    assert model.spec.distill is not None
    assert (model.spec.distill.seed, model.spec.gate) == (11, None)
    weights = {loss.kind: loss.weight for loss in model.spec.distill.stages[0].losses}
    assert (weights["embedding"] == "0") == (name == CONTROL)
    theirs = load_file(seeded(STUDENTS[HEADLINE], 11)).spec.distill
    assert theirs is not None
    assert (model.spec.distill.student == theirs.student) == (name in {HEADLINE, CONTROL})


def test_the_control_of_few_labels_has_eight_configurations() -> None:
    assert not FEW[OWN].shape
    for student in FEW.values():
        assert len({str(each) for each in student.configurations}) == 8
