"""Rows of tables and windows of time series as they are typed: numbers with commas between them, or JSON."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stillhouse.errors import DataError
from stillhouse.inference.signature import FeatureSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["asked_like", "read_features", "shown_row"]

_SHOWN = 60


def asked_like(spec: FeatureSpec) -> str:
    """Return an example of a row as it is typed."""
    if not spec.columns:
        return f"'[[…], …]' ({spec.shape[0]} samples of {spec.shape[1]} numbers)"
    return f"'{{\"{spec.columns[0]}\": …}}' or 1.2,3,… ({len(spec.columns)} numbers)"


def read_features(rows: Sequence[str], spec: FeatureSpec) -> npt.NDArray[np.float32]:
    """Read rows to float32 [rows, columns] or [rows, length, channels].

    A row is numbers with commas between them, a JSON array (flat, or nested as the shape is), or a JSON object: of a table by
    column, whatever else it holds, of a time series with `features`.

    Raises:
        DataError: a row is none, has other numbers than the model takes, or lacks a column; the row is named.
    """
    import numpy as np

    found = np.empty((len(rows), *spec.shape), dtype=np.float32)
    for number, text in enumerate(rows, 1):
        try:
            values = np.asarray(_parsed(text, spec), dtype=np.float64)
        except DataError as error:
            raise _of_row(text, number, len(rows), spec, str(error.problem.message), error.problem.fix) from error
        except (TypeError, ValueError, OverflowError) as error:
            raise _of_row(text, number, len(rows), spec, "it holds what is no number") from error
        if values.shape != spec.shape and values.shape != (math.prod(spec.shape),):
            count = f"{values.size} numbers" if values.ndim == 1 else f"numbers of shape {list(values.shape)}"
            raise _of_row(text, number, len(rows), spec, count)
        if not (np.abs(values) <= np.finfo(np.float32).max).all():
            raise _of_row(text, number, len(rows), spec, "a value is not finite, or missing")
        found[number - 1] = values.reshape(spec.shape)
    return found


def shown_row(text: str) -> str:
    """Return what was asked, for the line above its answer: of a row in JSON, which may be long, the beginning."""
    return text if len(text) <= _SHOWN or not text.startswith(("[", "{")) else f"{text[:_SHOWN]}…"


def _parsed(text: str, spec: FeatureSpec) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return [float(each) for each in text.split(",")]
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is no JSON: {error}") from error
    if not isinstance(given, dict):
        return given
    names = spec.columns or ("features",)
    missing = next((name for name in names if name not in given), None)
    if missing is not None:
        near = difflib.get_close_matches(missing, list(given), n=1, cutoff=0.6)
        raise DataError(f"it has no {missing}", fix=f"did you mean {near[0]}?" if near else "")
    return [given[name] for name in names] if spec.columns else given["features"]


def _of_row(text: str, number: int, rows: int, spec: FeatureSpec, found: str, fix: str = "") -> DataError:
    which = f"row {number}: " if rows > 1 else ""
    shown = shown_row(text.strip()) if text.lstrip().startswith(("[", "{")) else text.strip()[:_SHOWN]
    return DataError(
        "this is no row of the numbers that the model takes",
        field="INPUTS",
        found=f"{which}{found} in {shown}" if shown else f"{which}an empty line",
        allowed=asked_like(spec),
        fix=fix,
    )
