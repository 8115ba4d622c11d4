"""Inputs unlike the usual ones are told apart, and what is not a number is outside of every limit."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from stillhouse.errors import SourceError
from stillhouse.inference.outliers import OutlierRule, centroid_of, energy


def test_energy_by_hand_and_without_overflow() -> None:
    np.testing.assert_allclose(energy(np.array([[0.0, 0.0], [math.log(3), 0.0]])), [-math.log(2), -math.log(4)])
    np.testing.assert_allclose(energy(np.array([[1000.0, 1000.0]])), [-1000 - math.log(2)])
    assert energy(np.array([[5.0, 0.0]])) < energy(np.array([[0.5, 0.0]])), "weak evidence is stranger"


def test_the_distance_to_the_centroid_is_one_less_the_cosine() -> None:
    centroid = centroid_of(np.array([[1.0, 0.0], [0.0, 1.0], [math.nan, 0.0]]))
    np.testing.assert_allclose(centroid, [math.sqrt(0.5)] * 2)
    rule = OutlierRule("centroid", 0.5, centroid)
    np.testing.assert_allclose(rule.distance(np.array([centroid, (-centroid[0], -centroid[1])])), [0.0, 2.0], atol=1e-12)
    assert rule.outside(np.array([centroid, (-1.0, 0.0)])).tolist() == [False, True]


def test_vectors_that_cancel_have_a_centroid_all_the_same() -> None:
    assert centroid_of(np.array([[1.0, 0.0], [-1.0, 0.0]])) == (0.0, 0.0)


def test_the_nearest_row_of_the_index_tells_too() -> None:
    assert OutlierRule("nearest", 0.4).outside(np.array([0.7, 0.6, 0.59])).tolist() == [False, False, True]


@pytest.mark.parametrize("limit", [0.0, math.inf])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_outside(limit: float, bad: float) -> None:
    assert OutlierRule("energy", limit).outside(np.array([[bad, 0.0]])).all()
    assert OutlierRule("nearest", limit).outside(np.array([bad])).all()
    assert OutlierRule("centroid", limit, (1.0, 0.0)).outside(np.array([[bad, 0.0]])).all()


@pytest.mark.parametrize(
    "rule", [OutlierRule("energy", -3.5), OutlierRule("nearest", math.inf), OutlierRule("centroid", 0.2, (0.6, 0.8))]
)
def test_json_there_and_back(rule: OutlierRule) -> None:
    back = OutlierRule.from_json(json.loads(json.dumps(rule.to_json(), allow_nan=False)))
    assert back == rule
    assert back.digest == rule.digest


GOOD = {"version": 1, "kind": "nearest", "limit": 0.5, "centroid": []}


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {**GOOD, "version": 3},
        {**GOOD, "kind": "smell"},
        {**GOOD, "limit": math.nan},
        {**GOOD, "centroid": [1.0]},
        {**GOOD, "kind": "centroid"},
        {**GOOD, "kind": "centroid", "centroid": [math.inf]},
        {**GOOD, "limit": "far"},
    ],
)
def test_what_is_no_rule_is_a_users_error(data: Any) -> None:
    with pytest.raises(SourceError):
        OutlierRule.from_json(data)
