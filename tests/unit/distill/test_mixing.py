"""Several teachers as one: probabilities mixed, similarities averaged."""

from __future__ import annotations

import numpy as np
import pytest

from stillhouse.passes.distill.mixing import beside, certainty, fitted, log_probabilities, mixed, row_weights

LOGITS = np.random.default_rng(0).normal(size=(3, 50, 4)).astype(np.float32) * np.array([[[0.5]], [[2]], [[6]]], dtype=np.float32)
LOGS = [log_probabilities(part) for part in LOGITS]
GIVEN = np.array([1.0, 2.0, 1.0])


def test_a_mixture_is_the_weighted_mean_of_probabilities() -> None:
    logits = mixed(LOGS, row_weights(LOGS, GIVEN, "fixed"))
    wanted = sum(share * np.exp(part) for share, part in zip(GIVEN / 4, LOGS, strict=True))
    np.testing.assert_allclose(np.exp(logits), wanted, rtol=1e-5)
    alone = mixed(LOGS, row_weights(LOGS, np.array([0.0, 1.0, 0.0]), "fixed"))
    np.testing.assert_allclose(alone, LOGS[1], rtol=1e-5)


def test_a_surer_teacher_counts_more_and_one_that_knows_nothing_not_at_all() -> None:
    even = np.zeros((1, 4), dtype=np.float32)
    sure = np.array([[9, 0, 0, 0]], dtype=np.float32)
    parts = [log_probabilities(even), log_probabilities(sure)]
    assert row_weights(parts, np.ones(2), "confidence")[0] == pytest.approx([0, 1], abs=1e-6)
    assert row_weights(parts[:1] * 2, np.array([1.0, 3.0]), "confidence")[0] == pytest.approx([0.25, 0.75])
    weights = row_weights(LOGS, np.ones(3), "confidence")
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    said = np.stack([certainty(part) for part in LOGS], axis=1)
    assert (weights.argmax(axis=1) == said.argmax(axis=1)).all()


def test_selection_follows_one_teacher_a_row() -> None:
    weights = row_weights(LOGS, np.ones(3), "select")
    assert set(np.unique(weights)) == {0.0, 1.0}
    logits = mixed(LOGS, weights)
    for row, chosen in enumerate(weights.argmax(axis=1)):
        np.testing.assert_allclose(logits[row], LOGS[chosen][row], rtol=1e-5, atol=1e-6)
    assert np.isfinite(logits).all()


def test_learned_weights_have_the_highest_likelihood() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 4, 400)
    right = np.eye(4)[truth]
    good = log_probabilities((3 * right + generator.normal(size=(400, 4))).astype(np.float32))
    fair = log_probabilities((right + generator.normal(size=(400, 4))).astype(np.float32))
    poor = log_probabilities(generator.normal(size=(400, 4)).astype(np.float32) * 3)
    weights = fitted([good, fair, poor], truth)

    def likelihood(each: np.ndarray) -> float:
        parts = zip(each, (good, fair, poor), strict=True)
        return float(np.log(sum(share * np.exp(part[np.arange(400), truth]) for share, part in parts)).mean())

    assert weights.sum() == pytest.approx(1)
    assert weights[0] > weights[1] > weights[2]
    for other in ([1, 1, 1], [1, 0, 0], [0.9, 0.1, 0], [0.8, 0.1, 0.1]):
        assert likelihood(weights) >= likelihood(np.array(other) / sum(other)) - 1e-6


def test_embeddings_side_by_side_have_the_mean_of_the_similarities() -> None:
    generator = np.random.default_rng(2)
    parts = [generator.normal(size=(6, width)) for width in (8, 5)]
    parts = [(part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float16) for part in parts]
    together = beside(parts, np.array([1.0, 3.0])).astype(np.float64)
    assert together.shape == (6, 13)
    wanted = 0.25 * parts[0].astype(float) @ parts[0].T.astype(float) + 0.75 * parts[1].astype(float) @ parts[1].T.astype(float)
    np.testing.assert_allclose(together @ together.T, wanted, atol=2e-3)
