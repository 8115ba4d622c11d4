"""Columns told from a file's beginning: as the import finds them, and never stricter than it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from stillhouse.errors import DataError, SourceError
from stillhouse.passes.sources.header import header


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("text,label\na,b\n", ["text", "label"]),
        ("\ufefftext,label\r\na,b\r\n", ["text", "label"]),
        ('\n\n"a, quoted ""name""",label\na,b\n', ['a, quoted "name"', "label"]),
        (",text\n0,a\n", ["Unnamed: 0", "text"]),
        ("text;label\na;b\n", ["text;label"]),
        ("text,text\na,b\n", None),
    ],
)
def test_a_csv_file(tmp_path: Path, content: str, names: list[str] | None) -> None:
    (tmp_path / "a.csv").write_text(content, newline="")
    assert header(tmp_path / "a.csv") == names


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('{"text": "a"}\n\n{"text": "b", "label": "c"}\n', ["text", "label"]),
        ('[{"text": "a"},\n {"text": "b"}]', None),
        ("[1]\n", None),
        ("{}\n", None),
    ],
)
def test_a_jsonl_file(tmp_path: Path, content: str, names: list[str] | None) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    assert header(tmp_path / "a.jsonl") == names


def test_a_folder_has_the_columns_of_its_first_file(tmp_path: Path) -> None:
    for number, name in enumerate(("text", "label")):
        pyarrow.parquet.write_table(pyarrow.table({name: ["a"]}), tmp_path / f"{number}.parquet")
    assert header(tmp_path) == ["text"]


def test_what_the_import_unpacks_is_left_to_it(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        (tmp_path / name).write_bytes(gzip.compress(json.dumps({"text": "a"}).encode()))
        assert header(tmp_path / name) is None


def test_what_no_import_can_read_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.parquet", b"no parquet"), ("a.csv", "text\na\n".encode("utf-16")), ("a.txt", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError) as error:
            header(tmp_path / name)
        assert error.value.problem.field == "data.uri"
        assert error.value.problem.fix


def test_a_header_alone_holds_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n\n")
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(DataError, match="no rows"):
            header(tmp_path / name)


def test_an_object_that_is_nested_too_deeply_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "more": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(SourceError, match="cannot be parsed") as error:
        header(tmp_path / "a.jsonl")
    assert error.value.problem.found == "a.jsonl: line 1 is nested too deeply"


def test_a_file_of_another_encoding_is_to_be_saved_as_utf_8(tmp_path: Path) -> None:
    for name, content in (("a.csv", "text\ncafé\n".encode("latin-1")), ("b.csv", "text\na\n".encode("utf-16"))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError) as error:
            header(tmp_path / name)
        assert error.value.problem.fix == "save it as UTF-8"
