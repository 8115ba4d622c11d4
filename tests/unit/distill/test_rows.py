"""What is said of rows that cannot be used: the field of the resource, the row, and the column of the user's file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.artifacts import dataset

from stillhouse.errors import DataError, Problem
from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.distill.rows import Rows
from stillhouse.planning.fields import as_written
from stillhouse.planning.plan import Step

STEP = Step("train/stage-1", "train", "distill", 3, {}, {"data": "resolve/data", "validation": "resolve/validation"}, "key")

IMAGES = Signature("image-classification", ("x",), "logits", 1, ("a",), image=ImageSpec(2, 2, 1, (0.0,), (1.0,)))


def refused(folder: Path, named: dict[str, str], read: Callable[[Rows], object], role: str, **columns: list[Any]) -> Problem:
    made = dataset(folder, **columns)
    data = Artifact(made.digest, made.kind, made.path, made.size, {"named": named})
    with pytest.raises(DataError) as caught:
        read(Rows.of({role: data}, role))
    return as_written(STEP, caught.value.problem)


def test_a_label_is_found_in_the_users_file(tmp_path: Path) -> None:
    problem = refused(tmp_path, {"label": "intent"}, lambda rows: rows.labels(["a", "b"]), "data", label=["a", "b", "b", "c"])
    assert problem.field == "spec.distill.data.columns.label"
    assert problem.found == "'c' in row 4, column intent"


def test_a_label_that_only_looks_like_another_is_told_by_its_characters(tmp_path: Path) -> None:
    problem = refused(tmp_path, {}, lambda rows: rows.labels(["\u00e9", "y"]), "data", label=["y", "e\u0301"])
    assert "'e\\u0301', and the label is '\\xe9'" in problem.found
    assert "Unicode normal form" in problem.found


def test_rows_of_the_validation_data_are_looked_for_there(tmp_path: Path) -> None:
    read = {
        "text": lambda rows: rows.training_texts(),
        "label": lambda rows: rows.labels(["a"]),
        "image": lambda rows: rows.arrays(IMAGES),
    }
    columns: dict[str, list[Any]] = {"text": ["x", None], "label": ["a", "b"], "image": [[0.5] * 3] * 2}
    for role, values in columns.items():
        problem = refused(tmp_path / role, {role: "other"}, read[role], "validation", **{role: values})
        assert problem.field == f"spec.distill.validation.columns.{role}"
        assert "column other" in problem.found


def test_a_missing_column_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    named = {"query": "question", "label": "label"}
    problem = refused(tmp_path, named, lambda rows: rows.texts(), "data", query=["q"], label=["a"])
    assert problem.field == "spec.distill.data.columns.text"
    assert problem.found == "query (column question), label"


def test_half_a_pair_is_told_with_the_half_that_is_missing(tmp_path: Path) -> None:
    problem = refused(tmp_path, {"query": "question"}, lambda rows: rows.training_texts(), "validation", query=["q"])
    assert problem.message == "there is a column query, but none document"
    assert problem.field == "spec.distill.validation.columns.document"


def test_an_import_without_the_names_of_columns_is_read_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Rows.of({"data": dataset(tmp_path, label=["x"])}).labels(["a"])
    assert caught.value.problem.found == "'x' in row 1, column label"
