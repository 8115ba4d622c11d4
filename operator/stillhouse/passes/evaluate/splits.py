"""A split of the cascade's rows as both models answer it: how sure the small one is, and whether it says the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError
from stillhouse.inference.confidence import Neighbours, nearest, peak
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Progress
from stillhouse.passes.evaluate.curve import as_right
from stillhouse.passes.evaluate.reference import REFERENCE_FILE
from stillhouse.passes.sources.dataset import DATA_FILE, read_description

__all__ = ["Catalogue", "Split", "read_split"]

LEAST_P = 1e-12
_BLOCK = 64
Floats = npt.NDArray[np.float64]
JudgedBy = Literal["answer", "labels"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a search finds: `names` of the rows; each model's own embeddings of them, float32 [rows, dimension]."""

    names: tuple[str, ...]
    small: npt.NDArray[np.float32]
    large: npt.NDArray[np.float32]
    neighbours: int

    @classmethod
    def of(cls, index: Artifact, larger: Artifact, neighbours: int) -> Catalogue:
        """Read both indexes.

        Raises:
            DataError: the index has fewer than two rows: there is no second best that an answer could be told from.
        """
        import pyarrow.parquet
        from safetensors.numpy import load_file

        table = pyarrow.parquet.read_table(index.path / "index.parquet")
        column = "name" if "name" in table.column_names else "text"
        names = tuple(str(name) for name in table[column].to_pylist())
        if len(names) < 2:
            raise DataError("a search needs two rows to choose from", field="spec.index.data", found=f"{len(names)} rows")
        large = load_file(str(larger.path / REFERENCE_FILE))
        if "text" not in large:
            raise DataError(
                "the index's rows are pairs, and a search finds texts",
                field="spec.index.data.columns",
                found=", ".join(sorted(large)),
                allowed="text",
                fix="leave out query or document",
            )
        small = np.load(index.path / "embeddings.npy")
        return cls(names, small, _unit(large["text"]), min(neighbours, len(names)))

    def find(self, queries: npt.NDArray[np.float32], *, large: bool = False) -> Neighbours:
        """Return the nearest rows of the small or of the larger model's index."""
        return nearest(_unit(queries), self.large if large else self.small, self.neighbours)


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of one split, in their order.

    `values` float32 [n, width] is what the small model answers: log-probabilities, or embeddings. `signal` float64 [n] is what a
    search's confidence is read from, None for classes. `small` and `large` int64 [n] are the answers: a label, or the first row
    with the found name. `right` bool [n, 2] is whether they are the row's label, None without labels.
    """

    values: npt.NDArray[np.float32]
    signal: Floats | None
    scores: Floats | None
    small: npt.NDArray[np.int64]
    large: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_] | None

    @property
    def n(self) -> int:
        """Return the number of rows."""
        return len(self.small)

    def agrees(self, judged_by: JudgedBy, field: str) -> npt.NDArray[np.bool_]:
        """Return where the small model's answer counts as the larger one's, bool [n].

        Raises:
            DataError: labels are to judge, and there are none.
        """
        if judged_by == "answer":
            same: npt.NDArray[np.bool_] = self.small == self.large
            return same
        if self.right is None:
            raise DataError(
                "judgedBy: labels needs labels",
                field=f"{field}.columns.label",
                found="no label",
                allowed="a column of labels",
                fix="write columns: {label: COLUMN}, or judgedBy: answer",
            )
        return as_right(self.right[:, 0], self.right[:, 1])

    def part(self, rows: npt.NDArray[np.int64]) -> Split:
        """Return some of the rows."""
        return Split(
            self.values[rows],
            None if self.signal is None else self.signal[rows],
            None if self.scores is None else self.scores[rows],
            self.small[rows],
            self.large[rows],
            None if self.right is None else self.right[rows],
        )


def read_split(
    data: Artifact, larger: Artifact, engine: Engine, catalogue: Catalogue | None, field: str, progress: Progress
) -> Split:
    """Ask the small model, and read what the larger one said.

    Raises:
        DataError: columns are missing, or the larger model has other labels.
    """
    columns = _columns(data, engine.signature, field)
    values = _answers(engine, columns, progress, field)
    outputs = _outputs(larger)
    if catalogue is not None:
        found = catalogue.find(values)
        first = {name: row for row, name in reversed(list(enumerate(catalogue.names)))}
        which = np.array([first[name] for name in catalogue.names], dtype=np.int64)
        small = which[found.rows[:, 0]]
        large = which[catalogue.find(outputs["text"], large=True).rows[:, 0]]
        right = _right(columns.labels, catalogue.names, small, large, field, "a name of the index")
        return Split(values, peak(found), found.scores[:, 0], small, large, right)
    logits = outputs["logits"]
    labels = tuple(json.loads((larger.path / "measurement.json").read_bytes()).get("labels", ()))
    if labels != engine.signature.labels:
        raise DataError(
            "the larger model has other labels",
            field="spec.source.labels",
            found=", ".join(labels[:20]),
            allowed=", ".join(engine.signature.labels[:20]),
        )
    small, large = values.argmax(axis=1).astype(np.int64), logits.argmax(axis=1).astype(np.int64)
    right = _right(columns.labels, labels, small, large, field, "one of the model's labels")
    return Split(np.log(np.maximum(values, LEAST_P)), None, None, small, large, right)


@dataclass(frozen=True, slots=True)
class _Columns:
    texts: list[str] | None
    arrays: npt.NDArray[np.float32] | None
    labels: list[str | None] | None


def _columns(data: Artifact, signature: Signature, field: str) -> _Columns:
    import pyarrow.parquet

    there = read_description(data.path).columns
    role = signature.role
    if role not in there:
        raise DataError(
            f"the cascade's rows need a column for {role}",
            field=f"{field}.columns.{role}",
            found=", ".join(there) or "no column with a role",
            allowed=role,
            fix=f"write columns: {{{role}: COLUMN}}",
        )
    table = pyarrow.parquet.read_table(data.path / DATA_FILE)
    if not table.num_rows:
        raise DataError("the cascade's data has no rows", field=field, fix="give rows to solve the threshold on")
    labels = table["label"].to_pylist() if "label" in there else None
    if signature.takes_texts:
        return _Columns(table["text"].to_pylist(), None, labels)
    shape = signature.shape
    arrays = [np.asarray(row, dtype=np.float32).reshape(-1) for row in table[role].to_pylist()]
    if any(each.size != int(np.prod(shape)) for each in arrays):
        raise DataError(f"the {signature.rows} have another size than the model's", field=field, allowed=str(shape))
    return _Columns(None, np.stack(arrays).reshape(-1, *shape), labels)


def _answers(engine: Engine, columns: _Columns, progress: Progress, field: str) -> npt.NDArray[np.float32]:
    title = f"asking the small model: {field.rpartition('.')[2]}"
    rows: Sequence[str] | npt.NDArray[np.float32]
    if columns.texts is not None:
        rows = columns.texts
    else:
        assert columns.arrays is not None
        rows = columns.arrays
    found = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        found.append(engine.predict_arrays(block) if isinstance(block, np.ndarray) else engine.run_texts(block).values)
        progress.update(min(start + _BLOCK, len(rows)), len(rows), "rows", title)
    return np.concatenate(found)


def _outputs(larger: Artifact) -> dict[str, npt.NDArray[np.float32]]:
    from safetensors.numpy import load_file

    found: dict[str, npt.NDArray[np.float32]] = load_file(str(Path(larger.path) / REFERENCE_FILE))
    return found


def _right(
    labels: Sequence[str | None] | None,
    names: Sequence[str],
    small: npt.NDArray[np.int64],
    large: npt.NDArray[np.int64],
    field: str,
    allowed: str,
) -> npt.NDArray[np.bool_] | None:
    if labels is None:
        return None
    place: dict[str | None, int] = {}
    for row, name in enumerate(names):
        place.setdefault(name, row)
    strange = next((label for label in labels if label not in place), None)
    if strange is not None or None in labels:
        raise DataError(
            "a label is none that the model can answer",
            field=f"{field}.columns.label",
            found=repr(strange),
            allowed=allowed,
            fix="correct the labels, or leave the column out: agreement needs none",
        )
    truth = np.array([place[label] for label in labels], dtype=np.int64)
    found: npt.NDArray[np.bool_] = np.stack([small == truth, large == truth], axis=1)
    return found


def _unit(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return rows of length 1: a teacher's outputs are, up to rounding, and rows of other lengths have no cosine."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    found: npt.NDArray[np.float32] = (values / np.where(length > 0, length, 1)).astype(np.float32)
    return found
