"""Which columns play a role, and what is said where one is misspelt."""

from __future__ import annotations

import pytest

from stillhouse.errors import DataError, Problem
from stillhouse.passes.sources.columns import Need, choose


def refused(*there: str, need: Need = "rows") -> Problem:
    with pytest.raises(DataError) as error:
        choose({}, list(there), need)
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


@pytest.mark.parametrize(("half", "missing"), [("query", "document"), ("document", "query")])
def test_half_a_pair_is_refused_where_nothing_looks_like_the_other_half(half: str, missing: str) -> None:
    problem = refused(half, "id", "label")
    assert problem.message == f"there is a column {half}, but none {missing}"
    assert problem.field == f"data.columns.{missing}"
    assert problem.found == f"{half}, id, label"
    assert f"{{{missing}: COLUMN}}" in problem.fix
    assert "{text: COLUMN}" in problem.fix


def test_any_texts_calibrate() -> None:
    assert choose({}, ["query", "document_id"], "any") == {"query": "query"}
    assert choose({}, ["document", "qurey"], "any") == {"document": "document"}
    assert choose({}, ["text", "label"], "any") == {"text": "text", "label": "label"}
    problem = refused("body", "label", need="any")
    assert problem.field == "data.columns"
    assert problem.allowed.startswith("a column of texts (text, query or document), or image")
    assert problem.fix == "name the one with the texts: columns: {text: body}"


def test_an_index_needs_texts_and_pairs_are_asked_for_their_documents() -> None:
    problem = refused("query", "document", "name", need="text")
    assert problem.field == "data.columns.text"
    assert problem.fix == "name the one with the texts: columns: {text: document}"
    assert refused("txt", "name", need="text").fix == "did you mean txt? write columns: {text: txt}"


def test_texts_beside_half_a_pair_are_taken() -> None:
    assert choose({}, ["text", "document", "qurey"]) == {"text": "text", "document": "document"}


def test_a_column_that_was_given_a_role_has_no_other() -> None:
    there = ["query", "document", "name"]
    assert choose({"text": "query"}, there) == {"text": "query", "document": "document", "name": "name"}
    assert choose({"query": "document", "document": "query"}, there) == {"query": "document", "document": "query", "name": "name"}
    assert choose({"text": "query", "name": "query"}, ["query"]) == {"text": "query", "name": "query"}, "by choice it may"


def test_the_suggested_role_is_one_that_the_task_has() -> None:
    with pytest.raises(DataError) as error:
        choose({}, ["message", "label"], images=False)
    assert error.value.problem.fix == "name the one with the texts: columns: {text: message}"
    assert "image" not in error.value.problem.allowed
    with pytest.raises(DataError) as error:
        choose({}, ["img", "text"], images=True)
    assert error.value.problem.fix == "did you mean img? write columns: {image: img}"
    with pytest.raises(DataError) as error:
        choose({}, ["pixels", "label"], images=True)
    assert error.value.problem.fix == "name the one with the images: columns: {image: pixels}"
    assert choose({}, ["text", "image"], images=True) == {"text": "text", "image": "image"}


@pytest.mark.parametrize(("name", "separators"), [("text;label", "semicolons"), ("text\tlabel", "tabs")])
def test_another_separator_is_told_as_one(name: str, separators: str) -> None:
    for named in ({}, {"text": "body"}):
        with pytest.raises(DataError, match=f"separated by {separators}") as error:
            choose(named, [name])  # type: ignore[arg-type]
        assert error.value.problem.field == "data.uri"
        assert "commas" in error.value.problem.fix


@pytest.mark.parametrize("there", [("where is the file that I wrote", "yes"), ("Sort it.", "no"), ("0", "1.5"), ("a" * 41,)])
def test_a_file_without_a_header_line_is_told_that_its_first_row_is_taken_for_one(there: tuple[str, ...]) -> None:
    problem = refused(*there)
    assert problem.message.startswith("the first line is taken for the names")
    assert problem.fix == "write a header line above the rows"
    assert choose({"text": there[0]}, list(there)) == {"text": there[0]}, "by choice it may"
