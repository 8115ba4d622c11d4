"""Drawings are of the JSON that is stored, whole where a terminal knows ASCII only, and well-formed XML."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from stillhouse.passes.evaluate.curve import Curve, Rows, trace
from stillhouse.passes.evaluate.drawing import svg, text_chart
from stillhouse.passes.evaluate.threshold import Aim, solve

SVG = "{http://www.w3.org/2000/svg}"


def stored(labels: bool = True, n: int = 500) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    confidence = rng.random(n)
    agrees = rng.random(n) < 0.7 + 0.3 * confidence
    right = (rng.random(n) < 0.8, rng.random(n) < 0.9) if labels else None
    rows = Rows.of_two(confidence, agrees, costs=(0.1, 1.0), right=right)
    point = solve(rows, Aim("targetAgreement", 0.95)).point
    both = json.dumps([Curve.of(rows, trace(rows)).to_json(), point.to_json()], allow_nan=False)
    curve, chosen = json.loads(both)
    return curve, chosen


def test_the_chart_has_axes_the_curve_lot_and_the_chosen_point() -> None:
    curve, point = stored()
    text = text_chart(curve, point, {"targetAgreement": 0.95})
    lines = text.splitlines()
    assert len(lines) == 1 + 14 + 2 + 1
    assert all(sign in text for sign in ("•", "·", "◆", "100%", "escalated"))
    assert f"{point['agreement']['estimate']:.2%} agreement at {point['escalation']['estimate']:.1%}" in lines[-1]
    assert max(len(line) for line in lines[:-1]) <= 90


def test_the_curve_rises_to_the_right() -> None:
    curve, _ = stored()
    rows = text_chart(curve, width=40, height=10).splitlines()[1:11]
    tops = [
        min((place for place, row in enumerate(rows) if len(row) > 10 + c and row[10 + c] == "•"), default=None)
        for c in range(40)
    ]
    known = [top for top in tops if top is not None]
    assert len(known) > 35
    assert known[0] > known[-1] == 0


def test_ascii_is_ascii() -> None:
    curve, point = stored()
    text = text_chart(curve, point, {"escalationBudget": 0.3}, figure="accuracy", ascii_only=True)
    assert text.isascii()
    assert "@" in text


def test_the_svg_is_well_formed_and_needs_nothing_else() -> None:
    curve, point = stored()
    text = svg(curve, point, {"targetAgreement": 0.95}, title="a <b> & c")
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}title").text == "a <b> & c"  # type: ignore[union-attr]
    assert not [word for word in ("<script", "href", "url(", "@import", "<image") if word in text]
    assert len(root.findall(f"{SVG}circle")) == 1
    assert "target 95.00%" in text


def test_everything_of_the_svg_lies_on_the_paper() -> None:
    curve, point = stored()
    for figure in ("agreement", "accuracy"):
        root = ET.fromstring(svg(curve, point, {"escalationBudget": 0.2}, figure=figure))  # type: ignore[arg-type]
        _, _, width, height = (float(value) for value in root.get("viewBox", "").split())
        places = []
        for line in root.iter(f"{SVG}line"):
            places += [(float(line.get(f"x{end}", "")), float(line.get(f"y{end}", ""))) for end in "12"]
        for shape in [*root.iter(f"{SVG}polyline"), *root.iter(f"{SVG}polygon")]:
            places += [tuple(float(value) for value in pair.split(",")) for pair in shape.get("points", "").split()]  # type: ignore[misc]
        places += [(float(text.get("x", "")), float(text.get("y", ""))) for text in root.iter(f"{SVG}text")]
        assert len(places) > 100
        assert all(0 <= x <= width and 0 <= y <= height for x, y in places)


def test_without_labels_there_is_no_accuracy_to_draw() -> None:
    curve, point = stored(labels=False)
    assert "accuracy" not in svg(curve, point)
    for draw in (svg, text_chart):
        with pytest.raises((ValueError, KeyError)):
            draw(curve, figure="accuracy")


@pytest.mark.parametrize("agree", [0, 1])
@pytest.mark.parametrize("confidence", [0.5, math.nan])
@pytest.mark.parametrize("n", [1, 30])
def test_odd_curves_are_drawn_too(agree: int, confidence: float, n: int) -> None:
    rows = Rows.of_two(np.full(n, confidence), np.full(n, agree, dtype=bool))
    curve = Curve.of(rows, trace(rows)).to_json()
    point = solve(rows, Aim("targetAgreement", 0.9)).point.to_json()
    assert "escalated" in text_chart(curve, point)
    ET.fromstring(svg(curve, point, {"targetAgreement": 0.9}))
