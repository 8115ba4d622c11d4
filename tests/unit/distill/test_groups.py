"""Which training texts belong together, and how often each is drawn."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillhouse.errors import DataError
from stillhouse.passes.distill.rows import DATA_FILE, Rows


def rows(folder: Path, **columns: list[str] | list[float]) -> Rows:
    pq.write_table(pa.table(columns), folder / DATA_FILE)
    return Rows(folder)


def test_groups_are_numbered_and_a_row_without_company_stands_alone(tmp_path):
    found = rows(tmp_path, text=list("abcdef"), group=["x", "", "y", "x", "lone", "y"]).groups()
    assert found is not None
    assert found.tolist() == [0, -1, 1, 0, -1, 1]


def test_a_query_and_its_document_are_a_group(tmp_path):
    data = rows(tmp_path, query=["a", "b"], document=["A", "B"])
    found = data.groups()
    assert found is not None
    assert dict(zip(data.training_texts(), found.tolist(), strict=True)) == {"a": 0, "b": 1, "A": 0, "B": 1}


def test_data_that_does_not_say_has_no_groups(tmp_path):
    assert rows(tmp_path, text=["a", "b"]).groups() is None


def test_weights_are_of_every_training_text_and_the_largest_is_1(tmp_path):
    assert rows(tmp_path, text=["a", "b"]).weights() is None
    data = rows(tmp_path, text=["a", "b", "c"], weight=[1e308, 0.0, 5e307])
    assert data.weights().tolist() == [1.0, 0.0, 0.5]
    assert data.weights(np.array([0, 2])).tolist() == [1.0, 0.5]
    with pytest.raises(DataError, match="no row is left"):
        data.weights(np.array([1]))
    pairs = rows(tmp_path, query=["a", "b"], document=["A", "B"], weight=[2.0, 1.0])
    assert pairs.weights().tolist() == [1.0, 0.5, 1.0, 0.5]
