"""Which columns play a role, and what is said where one is misspelt."""

from __future__ import annotations

import pytest

from stillhouse.errors import DataError, Problem
from stillhouse.passes.sources.columns import choose


def refused(*there: str) -> Problem:
    with pytest.raises(DataError) as error:
        choose({}, list(there))
    return error.value.problem


@pytest.mark.parametrize(("there", "missing", "meant"), [
    (("qurey", "document", "name"), "query", "qurey"),
    (("Query", "document"), "query", "Query"),
    (("id", "query", "documents"), "document", "documents"),
])  # fmt: skip
def test_the_misspelt_half_of_a_pair_is_named(there: tuple[str, ...], missing: str, meant: str) -> None:
    problem = refused(*there)
    assert problem.field == f"data.columns.{missing}"
    assert problem.found == ", ".join(there)
    assert "query and document" in problem.allowed
    assert problem.fix.startswith(f"did you mean {meant}? write columns: {{{missing}: {meant}}}")


def test_labels_alone_are_nothing_to_show_to_a_model() -> None:
    problem = refused("txt", "label")
    assert problem.field == "data.columns"
    assert problem.fix == "did you mean txt? write columns: {text: txt}"
    assert refused("body", "label").fix == "name the one with the texts: columns: {text: body}"


def test_both_halves_misspelt() -> None:
    assert refused("qurey", "documnt").fix.endswith("write columns: {query: qurey, document: documnt}")


def test_half_a_pair_by_itself_and_texts_beside_a_half_are_taken() -> None:
    assert choose({}, ["query", "id"]) == {"query": "query"}
    assert choose({}, ["text", "document", "qurey"]) == {"text": "text", "document": "document"}
