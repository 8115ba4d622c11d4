"""From logits to a verified threshold, on scikit-learn's digits: a smoke test of how the parts fit together, no evidence."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from stillhouse.inference.confidence import Calibration
from stillhouse.inference.outliers import OutlierRule
from stillhouse.passes.evaluate.calibration import fit_outlier, fit_temperature
from stillhouse.passes.evaluate.curve import Curve, Rows, trace
from stillhouse.passes.evaluate.drawing import svg, text_chart
from stillhouse.passes.evaluate.reliability import before_and_after
from stillhouse.passes.evaluate.threshold import Aim, solve, verify

SPLITS = {"train": slice(500), "validation": slice(500, 800), "threshold": slice(800, 1300), "test": slice(1300, None)}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Return logits of a small model and of it quantized, answers of a larger one, and labels, of every image."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(images))
    images, labels = images[order], labels[order]
    coarse = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16) / 16
    train = SPLITS["train"]
    small = LogisticRegression(max_iter=300, C=100).fit(coarse[train], labels[train])
    logits = small.decision_function(coarse)
    step = np.abs(logits).max() / 15  # crude, and sharper than the model was
    return {
        "fp32": logits,
        "int4": np.round(logits / step) * step * 3,
        "large": SVC().fit(images[train], labels[train]).predict(images),
        "labels": labels,
    }


def rows_of(models: dict[str, Any], split: str, calibration: Calibration, rule: OutlierRule) -> Rows:
    part = SPLITS[split]
    logits, large, labels = models["int4"][part], models["large"][part], models["labels"][part]
    guess = logits.argmax(axis=1)
    confidence = np.where(rule.outside(logits), np.nan, calibration.of_logits(logits))
    return Rows.of_two(confidence, guess == large, costs=(0.1, 1.0), right=(guess == labels, large == labels))


def test_from_logits_to_a_verified_threshold(models: dict[str, Any]) -> None:
    part = SPLITS["validation"]
    calibration = fit_temperature(models["int4"][part], models["large"][part])
    rule = fit_outlier("energy", models["int4"][part])
    served = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))  # as the edge reads it
    rows = rows_of(models, "threshold", served, OutlierRule.from_json(rule.to_json()))

    there = SPLITS["threshold"]
    figures = before_and_after(
        {name: models[name][there] for name in ("fp32", "int4")}, models["large"][there], {"int4": calibration}
    )
    quantized = figures["int4"]
    # The likelihood is what a temperature is fitted to; the ECE of 500 rows moves by as much as chance does.
    assert quantized["int4"].nll.estimate < 0.8 * quantized["raw"].nll.estimate

    solved = solve(rows, Aim("targetAgreement", 0.95))
    assert solved.reachable
    assert 0.05 < solved.point.escalation.estimate < 0.8
    found = verify(rows_of(models, "test", served, rule), solved)
    assert found.verdict in {"met", "not resolved"}
    assert found.point.agreement.high >= 0.95
    assert found.point.loss is not None
    assert found.point.loss.low <= 0.03, "what escalates is what the small model gets wrong"

    curve = Curve.of(rows, trace(rows))
    assert (curve.areas["agreement"].gain or 0) > 0.5, "the confidence knows a good deal of when it is wrong"
    assert curve.areas["accuracy"].area > curve.areas["accuracy"].random
    stored = json.loads(json.dumps([curve.to_json(), solved.to_json(), found.to_json()], allow_nan=False))
    assert "chosen" in text_chart(stored[0], stored[1]["point"], stored[1]["aim"])
    ET.fromstring(svg(stored[0], stored[2]["point"], stored[1]["aim"], figure="accuracy"))


def test_a_broken_quantization_answers_nothing(models: dict[str, Any]) -> None:
    part = SPLITS["validation"]
    calibration = fit_temperature(models["int4"][part], models["large"][part])
    rule = fit_outlier("energy", models["int4"][part])
    broken = {**models, "int4": np.full_like(models["int4"], np.nan)}
    found = verify(
        rows_of(broken, "test", calibration, rule),
        solve(rows_of(models, "threshold", calibration, rule), Aim("escalationBudget", 0.5)),
    )
    assert found.point.legs == (0.0, 1.0)
    assert found.point.agreement.estimate == 1.0
    assert found.verdict == "not met"
