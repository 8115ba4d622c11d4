"""Whether a pipeline decides as on the teacher's answers: against numpy's composition of the same steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.step_graphs import Regression, write_rule
from tests.support.tiny_model import write_tiny_model

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.steps import Step, Tensor, step_file, write_steps
from stillhouse.passes.evaluate.decisions import agreement_of, decided
from stillhouse.passes.evaluate.metrics import Outputs
from stillhouse.passes.evaluate.rows import GateRows

REGRESSION = Regression.random(16, 3)
STEPS = [
    Step(
        "decide",
        {"features": "EMBEDDING"},
        {"odds": "ODDS", "choice": "CHOICE"},
        (Tensor("features", "FP32", (16,)),),
        (Tensor("odds", "FP32", (3,)), Tensor("choice", "INT64", (1,), flat=True)),
    ),
    Step(
        "rule",
        {"odds": "decide.odds", "choice": "decide.choice"},
        {"sure": "SURE"},
        (Tensor("odds", "FP32", (3,)), Tensor("choice", "INT64", (1,), flat=True)),
        (Tensor("sure", "BOOL", (1,)),),
    ),
]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path)
    REGRESSION.write(tmp_path / step_file("decide"))
    write_rule(tmp_path / step_file("rule"), 3, 0.4)
    write_steps(STEPS, tmp_path)
    return tmp_path


def embeddings(rows: int, seed: int = 1, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def test_the_steps_decide_on_the_teachers_answers_as_numpy_does(artifact: Path) -> None:
    query, document = embeddings(300), embeddings(290, 2)
    rows = GateRows({"query": ["q"] * 300, "document": ["d"] * 290}, None, None)
    found = decided(artifact, Outputs(query=query, document=document), rows)
    odds = REGRESSION.odds(np.concatenate([query, document]))
    np.testing.assert_allclose(found["ODDS"], odds, atol=1e-5)
    np.testing.assert_array_equal(found["CHOICE"], odds.argmax(axis=1)[:, np.newaxis])
    np.testing.assert_array_equal(found["SURE"][:, 0], (odds[:, 0] > 0.4) & (odds.argmax(axis=1) == 0))


def test_agreement_is_of_choices() -> None:
    teacher = {"ODDS": np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]), "SAID": np.array([["a"], ["b"], ["c"], ["d"]])}
    student = {"ODDS": np.array([[0.4, 0.6], [0.9, 0.1], [0.7, 0.3], [0.5, 0.4]]), "SAID": np.array([["a"], ["b"], ["x"], ["y"]])}
    assert agreement_of("ODDS", student, teacher).estimate == pytest.approx(0.75)
    assert agreement_of("SAID", student, teacher).estimate == pytest.approx(0.5)
    here = {"SAID": np.array([[b"a"], [b"b"], [b"x"], [b"z"]], dtype=object)}  # texts of a step that was run here are bytes
    assert agreement_of("SAID", student, here).estimate == pytest.approx(0.75)
    table = agreement_of("ODDS", teacher, teacher)
    assert (table.estimate, table.high) == (1.0, 1.0)
    with pytest.raises(DataError, match="needs a choice"):
        agreement_of("P", {"P": np.ones((3, 1), np.float32)}, {"P": np.ones((3, 1), np.float32)})


def test_a_teacher_of_another_width_cannot_be_compared_with(artifact: Path) -> None:
    rows = GateRows({"text": ["t"] * 5}, None, None)
    with pytest.raises(SpecError) as told:
        decided(artifact, Outputs(text=embeddings(5, width=8)), rows)
    assert told.value.problem.field == "spec.pipeline.steps[0].inputs.features"
    assert "EMBEDDING of the teacher: [8] a row" in told.value.problem.found
