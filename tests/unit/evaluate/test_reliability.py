"""How true a confidence is: by hand, against scikit-learn, and with the noise of few rows told apart from an error."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from stillhouse.errors import DataError
from stillhouse.inference.confidence import Calibration
from stillhouse.passes.evaluate.calibration import fit_temperature
from stillhouse.passes.evaluate.reliability import auroc, before_and_after, calibration_error, reliability


def test_the_calibration_error_by_hand() -> None:
    """Bins of width ½: {0.2, 0.4} with one hit of two, {0.9, 0.7} with two hits of two."""
    confidence, hit = np.array([0.2, 0.9, 0.4, 0.7]), np.array([0, 1, 1, 1])
    assert calibration_error(confidence, hit, bins=2) == pytest.approx(0.5 * abs(0.5 - 0.3) + 0.5 * abs(1 - 0.8))
    assert calibration_error(confidence, hit, bins=2, by="mass") == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)
    assert calibration_error(confidence, hit, bins=1) == pytest.approx(abs(0.75 - 0.55))


def test_the_ends_of_the_scale_have_a_bin() -> None:
    assert calibration_error(np.array([0.0, 1.0]), np.array([0, 1])) == 0.0
    assert calibration_error(np.array([0.0, 1.0]), np.array([1, 0])) == 1.0
    assert math.isnan(calibration_error(np.array([]), np.array([])))


def test_equal_confidences_stay_in_one_bin() -> None:
    """Cut apart, ten rows of 0.5 with five hits would look wrong in every bin."""
    confidence = np.full(10, 0.5)
    assert calibration_error(confidence, np.arange(10) < 5, bins=5, by="mass") == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.sampled_from(["width", "mass"]))
def test_the_error_is_a_share_and_no_order_matters(rows: list[tuple[float, bool]], by: str) -> None:
    confidence, hit = np.array([c for c, _ in rows]), np.array([h for _, h in rows])
    found = calibration_error(confidence, hit, by=by)  # type: ignore[arg-type]
    assert -1e-12 <= found <= 1 + 1e-12
    assert calibration_error(confidence[::-1], hit[::-1], by=by) == pytest.approx(found)  # type: ignore[arg-type]
    assert found >= abs(hit.mean() - confidence.mean()) - 1e-9, "bins only add to the error of all rows together"


def test_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0, 1, 400)
    hit = (rng.random(400) < confidence).astype(int)
    found = reliability(confidence, hit)
    assert found.brier.estimate == pytest.approx(brier_score_loss(hit, confidence))
    assert found.nll.estimate == pytest.approx(log_loss(hit, confidence))
    assert found.brier.low < found.brier.estimate < found.brier.high
    assert (found.n, found.abstained) == (400, 0)


def test_a_true_model_shows_no_more_error_than_chance_gives() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.5, 1, 500)
    true = reliability(confidence, rng.random(500) < confidence)
    assert 0.01 < true.floor_width < 0.06, "few rows are never without an error"
    assert true.ece_width.estimate < 1.7 * true.floor_width
    wrong = reliability(confidence, rng.random(500) < confidence - 0.2)
    assert wrong.ece_width.low > 3 * wrong.floor_width
    assert wrong.ece_mass.low > 3 * wrong.floor_mass


def test_abstentions_are_counted_and_are_in_no_figure() -> None:
    confidence, hit = np.array([0.9, math.nan, 0.4, math.nan]), np.array([1, 0, 0, 1])
    found, known = reliability(confidence, hit), reliability(confidence[[0, 2]], hit[[0, 2]])
    assert (found.n, found.abstained) == (2, 2)
    assert found.ece_width == known.ece_width
    with pytest.raises(DataError):
        reliability(np.array([math.nan]), np.array([1]))


@pytest.mark.parametrize("hit", [0, 1])
@pytest.mark.parametrize("n", [1, 30])
@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])
def test_figures_of_one_kind_of_row_are_finite_json(hit: int, n: int, confidence: float) -> None:
    found = reliability(np.full(n, confidence), np.full(n, hit))
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["eceWidth"]["estimate"] == pytest.approx(abs(hit - confidence))
    assert found.ece_width.low <= found.ece_width.estimate <= found.ece_width.high
    assert math.isfinite(data["nll"]["high"])


def test_before_and_after_of_both_precisions() -> None:
    """Quantization sharpened the logits: the temperature of the full model does not fit the quantized one, its own does."""
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=(3000, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = np.array([rng.choice(4, p=row) for row in p])
    models = {"fp32": logits, "int8": logits * 2 + rng.normal(scale=0.2, size=logits.shape)}
    fits = {f"of {name}": fit_temperature(values[:1500], target[:1500]) for name, values in models.items()}
    found = before_and_after({name: values[1500:] for name, values in models.items()}, target[1500:], fits)
    ece = {model: {name: figures.ece_width.estimate for name, figures in each.items()} for model, each in found.items()}
    assert set(ece["int8"]) == {"raw", "of fp32", "of int8"}
    assert ece["fp32"]["raw"] < 0.04
    assert ece["int8"]["raw"] > 0.08
    assert ece["int8"]["of fp32"] > 0.08
    assert ece["int8"]["of int8"] < 0.04


def test_rows_of_no_numbers_are_no_hits() -> None:
    logits = np.array([[2.0, 0.0], [math.nan, 0.0]])
    found = before_and_after({"int8": logits}, np.array([0, 0]), {"t": Calibration("temperature", temperature=2.0)})
    assert (found["int8"]["t"].n, found["int8"]["t"].abstained, found["int8"]["t"].accuracy) == (1, 1, 1.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_auroc_is_scikit_learns(rows: list[tuple[int, bool]]) -> None:
    signal, hit = np.array([float(s) for s, _ in rows]), np.array([h for _, h in rows])
    if hit.all() or not hit.any():
        assert math.isnan(auroc(signal, hit))
    else:
        assert auroc(signal, hit) == pytest.approx(roc_auc_score(hit, signal))


def test_a_signal_that_is_not_a_number_is_the_lowest() -> None:
    assert auroc(np.array([math.nan, 0.1, 0.2]), np.array([0, 1, 1])) == 1.0
