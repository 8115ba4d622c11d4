from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.source_folders import raised

from stillhouse.errors import DataError
from stillhouse.passes.sources.leaks import leaks, normalised, refuse_leaks

texts = st.lists(st.text(max_size=6), max_size=12)


def test_case_and_white_space_do_not_hide_a_leak() -> None:
    found = leaks(["Read a file.", "other"], ["new", "  read\ta FILE. ", "other", "other"])
    assert (found.rows, found.of) == (3, 4)
    assert found.examples[0] == (1, 2, "  read\ta FILE. ")


@given(texts, texts)
def test_equals_the_plain_definition(a: list[str], b: list[str]) -> None:
    known = {normalised(text) for text in a}
    assert leaks(a, b).rows == sum(normalised(text) in known for text in b)


@given(texts)
def test_a_split_leaks_wholly_into_itself(a: list[str]) -> None:
    assert leaks(a, a).rows == len(a)


def test_refusal_counts_and_shows() -> None:
    splits = {"distill.data": ["a", "b"], "compress.calibration": ["c"], "gate.data": ["x", "B"]}
    text = raised(DataError, lambda: refuse_leaks(splits, "gate.data"))
    assert "1 of 2 rows" in text
    assert "row 2 is row 2 of distill.data: 'B'" in text
    refuse_leaks({**splits, "gate.data": ["x"]}, "gate.data")


def test_other_splits_may_overlap_each_other() -> None:
    refuse_leaks({"a": ["same"], "b": ["same"], "gate": ["new"]}, "gate")


@pytest.mark.parametrize("text", ["\ud800", "", "\x00"])
def test_odd_texts_are_hashed_too(text: str) -> None:
    assert leaks([text], [text]).rows == 1
