"""The columns of a dataset artifact, as the building passes read them: texts, numbers, labels as class numbers."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError
from stillhouse.inference.signature import Signature

if TYPE_CHECKING:
    from stillhouse.passes.base import Artifact

__all__ = ["DATA_FILE", "NO_LABEL", "Rows"]

DATA_FILE: Final = "data.parquet"
NO_LABEL: Final = -100  # torch's cross_entropy leaves such rows out


class Rows:
    """The columns of a dataset artifact by role, read when asked for.

    `field` is the part of the resource that the data stands in, relative to the pass (`data`, `validation`; see
    `planning/fields.py`).
    """

    def __init__(self, folder: Path, field: str = "data", named: Mapping[str, str] | None = None) -> None:
        """Open the dataset; `named` is role → column of the user's file, for errors.

        Raises:
            DataError: the file is not readable.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.field = field
        self._named = dict(named or {})
        path = folder / DATA_FILE
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                "the imported data is not readable",
                field=f"{field}.uri",
                found=f"{path}: {error}",
                fix="look at the store, which says what mends it: still doctor",
            ) from error
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self.count = int(self._file.metadata.num_rows)

    @classmethod
    def of(cls, inputs: Mapping[str, Artifact], role: str = "data") -> Rows:
        """Open a pass's input; errors name its field and the columns of the file that it was imported from."""
        return cls(inputs[role].path, role, inputs[role].facts.get("named"))

    def texts(self, column: str = "text") -> list[str]:
        """Return a column of texts; a missing value is an error that names its row."""
        values = self._column(column)
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise DataError(
                    f"row {row + 1} has no {column}",
                    field=f"{self.field}.columns.{column}",
                    found=f"{value!r:.40} in {self._place(row, column)}",
                    allowed="a text in every row",
                    fix="remove or mend that row",
                )
        return values

    @property
    def pairs(self) -> bool:
        """Return whether there are queries with their documents, which are learned from one by one."""
        return "text" not in self.columns and {"query", "document"} <= set(self.columns)

    @property
    def learned(self) -> int:
        """Return how many inputs there are to learn from."""
        return 2 * self.count if self.pairs else self.count

    def training_texts(self) -> list[str]:
        """Return the texts to learn from: column `text`, or the queries followed by their documents."""
        if self.pairs:
            return self.texts("query") + self.texts("document")
        half = [role for role in ("query", "document") if role in self.columns]
        if "text" not in self.columns and half:
            missing = "document" if half == ["query"] else "query"
            raise DataError(
                f"there is a column {half[0]}, but none {missing}",
                field=f"{self.field}.columns.{missing}",
                found=self._there(),
                allowed="text, or query and document",
                fix=f"name it: columns: {{{missing}: COLUMN}}; for rows that are no pairs: columns: {{text: COLUMN}}",
            )
        return self.texts("text")

    def labels(self, names: Sequence[str]) -> npt.NDArray[np.int64] | None:
        """Return label numbers int64 [rows] in the order of `names`, -100 where a row has none; None without a column.

        A label is one of `names`, or its number where no name looks like one.

        Raises:
            DataError: a label that the model does not know.
        """
        if "label" not in self.columns:
            return None
        known = {name: index for index, name in enumerate(names)}
        numbers = {str(index): index for index in range(len(names))}
        out = np.full(self.count, NO_LABEL, dtype=np.int64)
        for row, value in enumerate(self._column("label")):
            if value is None or value == "":
                continue
            text = str(int(value)) if isinstance(value, bool | float) and float(value).is_integer() else str(value)
            index = known.get(text, numbers.get(text) if not isinstance(value, str) else None)
            if index is None:
                raise DataError(
                    "a label that the model does not know",
                    field=f"{self.field}.columns.label",
                    found=f"{value!r} in {self._place(row, 'label')}{_alike(text, names)}",
                    allowed=", ".join(names[:12]) + (", …" if len(names) > 12 else ""),
                    fix="mend the row, or list every label in spec.source.labels in the order of the model's outputs",
                )
            out[row] = index
        return out

    def groups(self) -> npt.NDArray[np.int64] | None:
        """Return the groups of the training texts: int64 [rows], -1 for a row that stands alone; None where nothing says.

        Without a column of groups, a query and its document are one.

        Raises:
            DataError: no two rows are of one group.
        """
        if self.pairs:
            return np.tile(np.arange(self.count, dtype=np.int64), 2)
        if "group" not in self.columns:
            return None
        values = self._column("group")
        many = Counter(value for value in values if value)
        numbers = {value: number for number, value in enumerate(value for value, rows in many.items() if rows > 1)}
        if not numbers:  # known once copies are made and repetitions have left; of the file alone its import says so
            raise DataError(
                "no two of the rows that are learned from are of one group",
                field=f"{self.field}.columns.group",
                found=f"{len(many)} groups of one row each, column {self._named.get('group', 'group')}",
                allowed="the same value in the rows that say the same",
                fix="name the column that joins rows, or add augment, whose copies are of their row's group",
            )
        return np.array([numbers.get(value, -1) for value in values], dtype=np.int64)

    def weights(self, kept: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float64] | None:
        """Return how often rows are to be drawn against each other: float64 [rows], the largest 1; None where nothing says.

        `kept`: of these rows; left out, of all there is to learn from, which of pairs are the queries and then the documents.

        Raises:
            DataError: all are 0: of the rows that were not, none is left.
        """
        if "weight" not in self.columns:
            return None
        values = np.array(self._column("weight"), np.float64)
        values = values if kept is None else values[kept]
        most = values.max(initial=0.0)
        if not most:
            raise DataError(
                "no row is left that would be learned from",
                field=f"{self.field}.columns.weight",
                found=f"0 in all {len(values)} rows, column {self._named.get('weight', 'weight')}",
                allowed="a number above 0 in one row at least",
                fix="give other rows, or leave weight out",
            )
        pairs = kept is None and self.pairs
        found: npt.NDArray[np.float64] = np.tile(values / most, 2 if pairs else 1)
        return found

    def arrays(self, signature: Signature) -> npt.NDArray[np.float32]:
        """Return images or features, float32 [rows, …] in the shape of the model's, as they are stored: not normalised.

        Raises:
            DataError: a row has another number of values than the model takes.
        """
        role, what, shape = signature.role, signature.rows, signature.shape
        expected = math.prod(shape)
        column = self._file.read(columns=[self._known(role)]).column(0).combine_chunks()
        flat = np.asarray(column.flatten(), dtype=np.float32) if self.count else np.zeros(0, np.float32)
        if flat.size != expected * self.count:
            raise DataError(
                f"{what} have another size than the model's input",
                field=f"{self.field}.columns.{role}",
                found=f"{flat.size / max(1, self.count):g} numbers a row, column {self._named.get(role, role)}",
                allowed=f"{expected} = {' × '.join(map(str, shape))}",
                fix=f"set spec.source.{role} to the shape of the data, or give {what} of that shape",
            )
        result: npt.NDArray[np.float32] = flat.reshape(self.count, *shape)
        return result

    def _column(self, name: str) -> list[Any]:
        values: list[Any] = self._file.read(columns=[self._known(name)]).column(0).to_pylist()
        return values

    def _known(self, name: str) -> str:
        if name not in self.columns:
            raise DataError(
                f"the data has no column for {name}",
                field=f"{self.field}.columns.{name}",
                found=self._there(),
                allowed=f"a column {name}, or one that is named to be it",
                fix=f"name it: columns: {{{name}: COLUMN}}",
            )
        return name

    def _place(self, row: int, role: str) -> str:
        return f"row {row + 1}, column {self._named.get(role, role)}"

    def _there(self) -> str:
        """Return the roles that there are, with the file's columns where those are called otherwise."""
        columns = {role: self._named.get(role, role) for role in self.columns}
        return ", ".join(role if role == name else f"{role} (column {name})" for role, name in columns.items()) or "no column"


def _alike(label: str, names: Sequence[str]) -> str:
    """Say how a label differs from the one that looks like it: é can be one character, or e and an accent."""
    for name in names:
        if unicodedata.normalize("NFC", label) == unicodedata.normalize("NFC", name):
            return f": {label!a}, and the label is {name!a}; they look alike, and differ in their Unicode normal form"
    return ""
