"""Columns of a table, and the column of a series' windows: found by name, read as numbers, refused with row and column."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from stillhouse.errors import DataError
from stillhouse.passes.sources.features import choose_features, rows_of
from stillhouse.passes.sources.limits import FeaturesConfig

TABLE = FeaturesConfig(columns=("width", "height"))
SERIES = FeaturesConfig(length=3, channels=2)


def refused(named: Mapping[Any, str], there: list[str], form: FeaturesConfig = TABLE) -> Any:
    with pytest.raises(DataError) as caught:
        choose_features(named, there, form)
    return caught.value.problem


def test_columns_are_found_in_the_models_order() -> None:
    chosen = choose_features({}, ["height", "colour", "width", "label", "group", "text"], TABLE)
    assert chosen.features == ("width", "height")
    assert chosen.roles == {"label": "label"}, "group counts only where it is named, and a text is no role here"
    assert choose_features({"label": "colour", "group": "g"}, ["g", "height", "colour", "width"], TABLE).roles == {
        "label": "colour",
        "group": "g",
    }
    assert choose_features({}, ["features", "label"], SERIES).features == ("features",)
    assert choose_features({"features": "window"}, ["window"], SERIES).features == ("window",)


def test_what_is_not_there_is_told() -> None:
    problem = refused({}, ["widht", "height"])
    assert (problem.field, problem.found, problem.fix) == ("source.features.columns", "width", "did you mean widht?")
    assert refused({"label": "class"}, ["width", "height", "clas"]).fix == "did you mean clas?"
    assert refused({}, ["window", "label"], SERIES).field == "data.columns.features"


def test_a_model_is_not_shown_the_answer() -> None:
    problem = refused({"label": "height"}, ["width", "height"])
    assert problem.field == "data.columns.label" and "source.features.columns" in problem.fix


@pytest.mark.parametrize(
    ("named", "form"), [({"text": "width"}, TABLE), ({"features": "width"}, TABLE), ({"image": "w"}, SERIES)]
)
def test_roles_of_other_tasks_are_refused(named: dict[Any, str], form: FeaturesConfig) -> None:
    assert refused(named, ["width", "height", "w", "features"], form).field == f"data.columns.{next(iter(named))}"


def test_numbers_are_read_however_a_file_has_them() -> None:
    batch = {"width": ["1.5", " 2 ", "-3e2"], "height": [1, True, 2.5]}
    np.testing.assert_array_equal(rows_of(batch, TABLE.columns or (), TABLE, 1), [[1.5, 1], [2, 1], [-300, 2.5]])


@pytest.mark.parametrize(
    ("value", "says", "fix"),
    [
        (None, "a missing value in column height", "leave the row out"),
        (float("nan"), "a missing value", "median"),
        ("", "a missing value", "median"),
        ("NA", "a missing value", "median"),
        ("red", "no number in column height", "0 and 1"),
        ("1,5", "no number", "0 and 1"),
        (1e39, "no number that float32 can hold", "another unit"),
        (float("inf"), "no number that float32 can hold", "another unit"),
        (datetime.date(2026, 1, 1), "no number", "seconds"),
    ],
)
def test_the_row_and_the_column_of_a_useless_value_are_named(value: Any, says: str, fix: str) -> None:
    with pytest.raises(DataError) as caught:
        rows_of({"width": [1, 2], "height": [1, value]}, ("width", "height"), TABLE, 4097)
    problem = caught.value.problem
    assert problem.message.startswith(f"row 4098 has {says}")
    assert "row 4098, column height" in problem.found
    assert fix in problem.fix


def test_windows_are_nested_or_flat() -> None:
    nested = [[1, 2], [3, 4], [5, 6]]
    rows = rows_of({"w": [nested, [1, 2, 3, 4, 5, 6]]}, ("w",), SERIES, 1)
    np.testing.assert_array_equal(rows, [[1, 2, 3, 4, 5, 6]] * 2)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "nothing"),
        ([[1, 2], [3, 4]], "[2, 2]"),
        ([[1, 2], [3]], "different lengths"),
        ([1, 2, 3, 4, 5, None], "not finite"),
        (["a"] * 6, "no number"),
    ],
)
def test_a_useless_window_is_named(value: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        rows_of({"w": [value]}, ("w",), SERIES, 8)
    problem = caught.value.problem
    assert problem.field == "data.columns.features"
    assert says in problem.found and "row 8, column w" in problem.found
