"""Outputs that are no finite numbers are refused, with the row that they came of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError

__all__ = ["demand_finite"]


def demand_finite(
    values: npt.NDArray[Any],
    *,
    whose: str,
    what: str,
    field: str,
    count: int,
    rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
) -> None:
    """Look at outputs [rows, …]. A NaN would be counted as the first label, and taught or judged by as if it were an answer.

    Args:
        values: the outputs.
        whose: the teacher's or the student's.
        what: which of its outputs.
        field: of the data, such as `data` or `validation`.
        count: rows of the data; of pairs the documents come after all queries.
        rows: which of the data's rows these are, from 0; all of them from the first where it is left out.

    Raises:
        DataError: one is not finite.
    """
    unsound = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if not len(unsound):
        return
    row = min(int(each) if rows is None else int(rows[each]) for each in unsound) % max(count, 1)
    raise DataError(
        f"the {whose} gives values that are not finite ({what})",
        field=f"{field}.uri",
        found=f"NaN or infinity for row {row + 1}",
        allowed="finite numbers for every row",
        fix=f"look at row {row + 1}: numbers of another size than the other rows' can be too large for the {whose}, as can others"
        f" than it learned from; where its numbers are ordinary, look at the {whose}'s weights",
    )
