from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.source_folders import raised

from stillhouse.errors import DataError
from stillhouse.passes.sources.leaks import leaks, normalised, refuse_found


def refuse_leaks(splits: dict[str, list[str]], held_out: str) -> None:
    """Refuse texts of the split `held_out` that occur in any other."""
    refuse_found({name: leaks(texts, splits[held_out]) for name, texts in splits.items() if name != held_out}, held_out)


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


def test_all_that_leaks_is_told_at_once_and_the_fix_helps_all_of_it() -> None:
    data, tuning = "spec.distill.data", "spec.source.fineTune.data"
    splits = {data: ["a", "b"], tuning: ["b", "c"], "spec.compress.calibration": ["d"], "gate": ["x", "B"]}
    with pytest.raises(DataError) as both:
        refuse_leaks(splits, "gate")
    problem = both.value.problem
    assert problem.message.endswith(f"texts of gate are also in {data} and {tuning}")
    assert f"row 2 is row 2 of {data}: 'B'" in problem.found
    assert f"row 2 is row 1 of {tuning}: 'B'" in problem.found
    assert problem.fix == f"remove those rows from {data} and {tuning}, or from gate"
    with pytest.raises(DataError) as one:
        refuse_leaks({**splits, tuning: ["c"]}, "gate")
    assert one.value.problem.fix == f"remove those rows from {data}, or have them left out: spec.distill.deduplicate: {{}}"


def test_other_splits_may_overlap_each_other() -> None:
    refuse_leaks({"a": ["same"], "b": ["same"], "gate": ["new"]}, "gate")


@pytest.mark.parametrize("text", ["\ud800", "", "\x00"])
def test_odd_texts_are_hashed_too(text: str) -> None:
    assert leaks([text], [text]).rows == 1
