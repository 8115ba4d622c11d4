"""Inputs that are plain numbers of a fixed form: rows of tables, windows of time series."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.scalars import Column, once

__all__ = ["FEATURE_RULES", "FEATURE_TASKS", "Features", "features_fit"]

FEATURE_TASKS: Final = ("tabular-classification", "time-series-classification")
_FEATURES_BELONG = CelRule(
    f"self.task in {list(FEATURE_TASKS)} || !has(self.features)",
    "features belongs to tasks tabular-classification and time-series-classification only",
    "features",
)
_TABLE_HAS_COLUMNS = CelRule(
    "self.task != 'tabular-classification' || has(self.features) && has(self.features.columns)",
    "task tabular-classification needs features (columns)",
    "features",
)
_SERIES_HAS_LENGTH = CelRule(
    "self.task != 'time-series-classification' || has(self.features) && has(self.features.length)",
    "task time-series-classification needs features (length, channels)",
    "features",
)
FEATURE_RULES = (_FEATURES_BELONG, _TABLE_HAS_COLUMNS, _SERIES_HAS_LENGTH)
_ROWS_OR_WINDOWS = CelRule(
    "has(self.columns) != has(self.length) && (!has(self.channels) || has(self.length))",
    "give columns (of a table), or length and channels (of a window of a time series)",
)
_NUMBERS_OF_A_ROW = CelRule(
    "!has(self.length) || self.length * (has(self.channels) ? self.channels : 1) <= 1048576",
    "a window holds at most 1048576 numbers",
    "length",
)
_BESIDE_A_ROW = CelRule(
    "!has(self.columns) || self.columns.all(c, !(c in ['label', 'confidence', 'leg']))",
    "label, confidence and leg stand beside a row and are none of its columns",
    "columns",
)


class Features(ApiModel):
    """Form of inputs that are plain numbers: a row of a table, or a window of a time series."""

    columns: Annotated[
        tuple[Column, ...] | None,
        Field(min_length=1, max_length=1024, json_schema_extra={"x-kubernetes-list-type": "set"}),
        AfterValidator(lambda names: names and once("column")(names)),
    ] = None
    """Of a table: the columns of the data that the model is shown, in its order. They hold numbers, in every row."""
    length: Annotated[int | None, Field(ge=1, le=65536)] = None
    """Of a time series: samples of a window, the oldest first."""
    channels: Annotated[int | None, Field(ge=1, le=1024)] = None
    """Of a time series: numbers of each sample, one for each sensor; 1 when left out."""

    cel_rules = (_ROWS_OR_WINDOWS, _NUMBERS_OF_A_ROW, _BESIDE_A_ROW)

    @model_validator(mode="after")
    def _one_form(self) -> Features:
        if (self.columns is None) == (self.length is None) or (self.channels is not None and self.length is None):
            raise _ROWS_OR_WINDOWS.broken()
        if self.length is not None and self.length * (self.channels or 1) > 1 << 20:
            raise _NUMBERS_OF_A_ROW.broken()
        if {"label", "confidence", "leg"} & set(self.columns or ()):
            raise _BESIDE_A_ROW.broken(fix="rename that column; the labels' is named in the data's columns: {label: COLUMN}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row: [columns] or [length, channels]."""
        return (len(self.columns),) if self.columns is not None else (self.length or 1, self.channels or 1)


def features_fit(task: str, features: Features | None) -> None:
    """Raise where a task has not the form of inputs that it needs, or one that is none of its own."""
    if task not in FEATURE_TASKS and features is not None:
        raise _FEATURES_BELONG.broken()
    if task == "tabular-classification" and (features is None or features.columns is None):
        raise _TABLE_HAS_COLUMNS.broken(fix="write features: {columns: [NAME, NAME, …]}, the numbers of the data's rows")
    if task == "time-series-classification" and (features is None or features.length is None):
        raise _SERIES_HAS_LENGTH.broken(fix="write features: {length: SAMPLES, channels: SENSORS}")
