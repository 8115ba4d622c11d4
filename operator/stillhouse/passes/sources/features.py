"""Columns of a table as the rows of numbers that a model is shown, and windows of a time series from a column of lists.

Nothing is filled: what a missing value means only its owner knows, and whoever fills it in training has to fill it in every
request. So the row and the column are named, and the import ends.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillhouse.errors import DataError
from stillhouse.passes.sources.columns import ASKED_FOR, Role, guess_of
from stillhouse.passes.sources.limits import FeaturesConfig

__all__ = ["Chosen", "choose_features", "rows_of"]

_BESIDE: tuple[Role, ...] = ("label", "name", "group", "weight")
_NOTHING = {"", "na", "n/a", "nan", "null", "none", "?"}
_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Chosen:
    """`roles`: role → column, of what stands beside a row; `features`: the columns that hold it, in the model's order."""

    roles: dict[Role, str]
    features: tuple[str, ...]


def choose_features(named: Mapping[Role, str], there: Sequence[str], form: FeaturesConfig) -> Chosen:
    """Return which columns of a file with the columns `there` are read; `named` are those that the resource names.

    Raises:
        DataError: one is not there, or plays two roles.
    """
    wrong = next((role for role in named if role not in _BESIDE and (role != "features" or form.columns is not None)), None)
    if wrong is not None:
        whole = "the columns of a table are named in source.features" if form.columns is not None else "windows are numbers"
        raise DataError(
            f"a column {wrong} is none that this task is shown: {whole}",
            field=f"data.columns.{wrong}",
            found=named[wrong],
            allowed="label, name, group, weight"
            if form.columns is not None
            else "features; beside it label, name, group, weight",
            fix="leave it out",
        )
    features = form.columns if form.columns is not None else (named.get("features", "features"),)
    missing = [name for name in features if name not in there]
    if missing:
        raise _not_there(missing, there, features, table=form.columns is not None)
    for role, column in named.items():
        if column not in there:
            raise _not_there([column], there, (*features, *named.values()), role=role)
    by_name = [role for role in _BESIDE if role in there and role not in features and role not in ASKED_FOR]
    roles = {role: named.get(role, str(role)) for role in _BESIDE if role in named or role in by_name}
    twice = next((role for role, column in roles.items() if column in features), None)
    if twice is not None:
        raise DataError(
            f"the column of the {twice} is also one that the model is shown",
            field=f"data.columns.{twice}",
            found=roles[twice],
            allowed="another column"
            if twice != "label"
            else "another column: a model that is shown the answer learns nothing else",
            fix=f"remove {roles[twice]} from source.features.columns",
        )
    return Chosen(roles, features)


def rows_of(
    batch: Mapping[str, Sequence[Any]], columns: Sequence[str], form: FeaturesConfig, first: int
) -> list[NDArray[np.float32]]:
    """Return the rows of a batch, each float32 and flat: [columns], or [length × channels], sample after sample.

    `first`: number of the batch's first row, from 1.

    Raises:
        DataError: a value is missing, or no number; the row and the column are named.
    """
    if form.columns is None:
        return [_window(value, row, columns[0], form) for row, value in enumerate(batch[columns[0]], first)]
    table = np.stack([_column(batch[name], name, first) for name in columns], axis=1)
    return list(np.ascontiguousarray(table, dtype=np.float32))


def _column(values: Sequence[Any], name: str, first: int) -> NDArray[np.float64]:
    try:
        made = np.asarray(values, dtype=np.float64)
        if made.ndim == 1 and np.abs(made).max(initial=0.0) <= _LARGEST:  # NaN is not
            return made
    except (TypeError, ValueError, OverflowError):
        pass
    return np.array([_number(value, name, row) for row, value in enumerate(values, first)], dtype=np.float64)


def _number(value: Any, name: str, row: int) -> float:
    text = isinstance(value, str)
    if value is None or (text and value.strip().lower() in _NOTHING) or (isinstance(value, float) and math.isnan(value)):
        shown = f"{value!r}" if text and value.strip() else "nothing"
        fix = "fill it here and in what is sent later, for example with the column's median, or leave the row out"
        raise _useless("a missing value", shown, name, row, fix)
    if isinstance(value, bool | int | float | str):
        try:
            found = float(value)
        except (ValueError, OverflowError):
            fix = "write classes as numbers: one column of 0 and 1 for each, or their order where they have one"
            raise _useless("no number", repr(value)[:60], name, row, fix) from None
        if abs(found) <= _LARGEST:
            return found
        raise _useless("no number that float32 can hold", repr(value)[:60], name, row, "measure it in another unit")
    raise _useless(
        "no number",
        f"{type(value).__name__} {value!r}"[:60],
        name,
        row,
        "write a time as seconds, and what else it is as numbers",
    )


def _window(value: Any, row: int, name: str, form: FeaturesConfig) -> NDArray[np.float32]:
    shape = form.shape
    try:
        made = np.asarray(value if value is not None else [], dtype=np.float64)
    except (TypeError, ValueError) as error:
        allowed = f"lists of numbers, {shape[0]} × {shape[1]}"
        found = "lists of different lengths, or what is no number,"
        raise _of_window(found, row, name, allowed, "a missing value has to be filled before") from error
    if made.shape != shape and made.shape != (math.prod(shape),):
        found = f"a shape of {list(made.shape)}" if made.size else "nothing"
        fix = "cut the series into windows of that length, or set source.features.length and channels to the data's"
        raise _of_window(found, row, name, f"{list(shape)} (samples, channels), or {math.prod(shape)} numbers in one list", fix)
    if not np.abs(made).max(initial=0.0) <= _LARGEST:
        fix = "fill what is missing here and in what is sent later, for example with the sample before, or leave the row out"
        raise _of_window("a value that is not finite", row, name, "finite numbers", fix)
    return made.astype(np.float32).reshape(-1)


def _of_window(found: str, row: int, name: str, allowed: str, fix: str) -> DataError:
    return DataError(
        f"row {row} has no usable window",
        field="data.columns.features",
        found=f"{found} in row {row}, column {name}",
        allowed=allowed,
        fix=fix,
    )


def _useless(lack: str, shown: str, name: str, row: int, fix: str) -> DataError:
    return DataError(
        f"row {row} has {lack} in column {name}",
        field="data.uri",
        found=f"{shown} in row {row}, column {name}"[:200],
        allowed="a finite number in every row",
        fix=fix,
    )


_TABLE_FIX = "put that column into the file, or leave it out of source.features.columns"


def _not_there(
    missing: Sequence[str], there: Sequence[str], wanted: Sequence[str], *, table: bool = False, role: Role | None = None
) -> DataError:
    free = [name for name in there if name not in wanted]
    near = difflib.get_close_matches(missing[0], free, n=1, cutoff=0.6)
    field = "source.features.columns" if table else f"data.columns.{role or 'features'}"
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    otherwise = _TABLE_FIX if table else f"write columns: {{{role or 'features'}: {guess_of(role or 'features', free)}}}"
    return DataError(
        "the data has not every column that the model is shown" if table else "the data has no such column",
        field=field,
        found=", ".join(missing[:_SHOWN]) + more,
        allowed=", ".join(there[:20]) or "no columns at all",
        fix=f"did you mean {near[0]}?" if near else otherwise,
    )
