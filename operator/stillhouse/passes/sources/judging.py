"""What a row must be to be of use: every value is judged by its column's role, and what they all say is gathered."""

from __future__ import annotations

import hashlib
import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillhouse.errors import DataError
from stillhouse.passes.sources.columns import Need, Role
from stillhouse.passes.sources.images import ImageColumn
from stillhouse.passes.sources.leaks import normalised

__all__ = ["Content"]


@dataclass(slots=True)
class Content:
    """What is learned while rows go by."""

    columns: tuple[Role, ...]
    labels: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    heaviest: float = 0.0
    unlabelled: int = 0
    lengths: list[int] = field(default_factory=list)
    duplicates: int = 0
    images: ImageColumn = field(default_factory=ImageColumn)
    _seen: set[bytes] = field(default_factory=set)
    _hash: Any = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """Return the digest of all rows so far, in their order."""
        return "sha256:" + str(self._hash.hexdigest())

    def take(self, role: Role, values: Sequence[Any], first_row: int, column: str) -> list[Any]:
        """Check a column's values and return them as they are stored."""
        if role == "image":
            images = self.images.take(values, first_row, column)
            self._update(image.tobytes() for image in images)
            return list(images)
        if role == "weight":
            weights = [_weight(value, row, column) for row, value in enumerate(values, first_row)]
            self.heaviest = max(self.heaviest, *weights)
            self._update(struct.pack("<d", weight) for weight in weights)
            return weights
        if role == "label":
            # Few labels and much text is a task of its own: null says that nobody knows, and only null does.
            texts = ["" if value is None else _label(value, row, column, role) for row, value in enumerate(values, first_row)]
            self.labels.update(text for text in texts if text)
            self.unlabelled += sum(not text for text in texts)
        elif role == "group":
            texts = ["" if value is None else _label(value, row, column, role) for row, value in enumerate(values, first_row)]
            self.groups.update(text for text in texts if text)
        else:
            texts = [_text(value, row, column, role) for row, value in enumerate(values, first_row)]
            if role == ("text" if "text" in self.columns else "query"):
                self._count(texts)
        self._update(text.encode() for text in texts)
        return list(texts)

    def take_features(self, rows: list[NDArray[np.float32]]) -> list[Any]:
        """Note rows of numbers, which `features.rows_of` has checked, and return them as they are stored."""
        self._update(row.tobytes() for row in rows)
        return list(rows)

    def check(self, need: Need, *, copied: bool = False) -> None:
        """Judge what only all rows together can say. `need`: what the data is for; who reads no labels needs none, and no two.

        `copied`: every row will have copies, which are of its group: then it is no fault that no two rows are of one.

        Raises:
            DataError: there is a column of labels, but nothing in it, or one class only; or all weights are 0.
        """
        if need == "rows" and self.unlabelled and not self.labels:
            _label(None, 1, "label", "label")
        if "group" in self.columns and max(self.groups.values(), default=0) < (1 if copied else 2):
            raise DataError(
                "no two rows are of one group",
                field="data.columns.group",
                found=f"{len(self.groups)} groups of one row each" if self.groups else "null in every row",
                allowed="the same value in the rows that say the same, null in rows that stand alone",
                fix="name the column that joins rows, for example a summary and its text, or add augment, whose copies are of"
                " their row's group",
            )
        if "weight" in self.columns and not self.heaviest:
            raise DataError(
                "no row would ever be learned from",
                field="data.columns.weight",
                found="0 in every row",
                allowed="a number above 0 in one row at least",
                fix="leave weight out: all rows then count alike",
            )
        if need == "rows" and "label" in self.columns and len(self.labels) < 2:
            raise DataError(
                "all rows have the same label",
                field="data.columns.label",
                found=f"{next(iter(self.labels))[:100]!r} in every row",
                allowed="at least two classes",
                fix="name the column that holds the classes, or add rows of other classes",
            )

    def _update(self, values: Iterable[bytes]) -> None:
        for raw in values:
            self._hash.update(len(raw).to_bytes(8, "little") + raw)

    def _count(self, texts: list[str]) -> None:
        for text in texts:
            self.lengths.append(len(text))
            key = hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            self.duplicates += key in self._seen
            self._seen.add(key)


def _text(value: Any, row: int, column: str, role: Role) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable():
        return value  # the common case; what is left is looked at more closely
    if isinstance(value, str) and value.strip() and not any("\ud800" <= letter <= "\udfff" for letter in value):
        return value
    shown = "an empty text" if isinstance(value, str) else "nothing" if _missing(value) else f"{type(value).__name__} {value!r}"
    if isinstance(value, int | float) and not isinstance(value, bool) and not _missing(value):
        fix = f'write it as text (in JSON with quotes: "{value}"); a column of numbers alone holds no {role}'
        raise _useless(f"a number where its {role} belongs", f"{value!r}, without quotes,", "text", row, column, role, fix)
    raise _useless(f"no {role}", shown, "a text that is not empty in every row", row, column, role)


def _label(value: Any, row: int, column: str, role: Role) -> str:
    if isinstance(value, str) and value.strip() == value and value:
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and value.strip():
        shown = f"{value!r}, with white space around it"
    else:
        shown = "nothing" if _missing(value) or value == "" else repr(value)
    raise _useless(f"no usable {role}", shown, "a name without white space around it, or a whole number", row, column, role)


def _weight(value: Any, row: int, column: str) -> float:
    # A CSV column with one cell that is no number is read as texts: the row that is wrong is to be named, not the first one.
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number) and number >= 0:
        return number
    shown = "nothing" if _missing(value) or value == "" else repr(value)
    raise _useless("no usable weight", shown, "a finite number, 0 or more", row, column, "weight")


def _useless(
    lack: str, shown: str, allowed: str, row: int, column: str, role: Role, fix: str = "remove or mend that row"
) -> DataError:
    return DataError(
        f"row {row} has {lack}",
        field=f"data.columns.{role}",
        found=f"{shown} in row {row}, column {column}"[:200],
        allowed=allowed,
        fix=fix,
    )


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
