"""Data files through the pass: three formats, one result, and every row that cannot be used is named."""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tests.support.artifacts import Recorder, context
from tests.support.refusals import refuse
from tests.support.source_folders import pinned, raised

from stillhouse.clients.store.files import disk_full
from stillhouse.errors import DataError, SourceError, UserError
from stillhouse.passes.sources.data import DataFacts, ImportData, ImportDataConfig
from stillhouse.passes.sources.dataset import read_columns, read_description
from stillhouse.passes.sources.header import header
from stillhouse.passes.sources.reading import data_files, open_table

ROWS = [
    {"body": "Read a file.", "kind": "io"},
    {"body": "Sort a list, „fast“", "kind": "list"},
    {"body": "read  a FILE.", "kind": "io"},
]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def run(
    source: Path,
    work: Path,
    progress: Recorder | None = None,
    field: str = "spec.distill.data",
    *,
    copied: bool = False,
    **config: Any,
) -> tuple[DataFacts, Path]:
    work.mkdir(exist_ok=True)
    ctx = dataclasses.replace(context(work, progress), source=source, field=field, copied=copied)
    return ImportData().run(ImportDataConfig.model_validate({"digest": pinned(source), **config}), {}, ctx), ctx.out


NAMED = {"text": "body", "label": "kind"}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_three_formats_give_the_same_rows(suffix: str, tmp_path: Path) -> None:
    facts, out = run(write(tmp_path / f"rows{suffix}", ROWS), tmp_path / "work", columns=NAMED)
    assert read_columns(out, ["text", "label"]) == {"text": [row["body"] for row in ROWS], "label": [row["kind"] for row in ROWS]}
    assert (facts.rows, facts.columns, facts.classes, facts.duplicates) == (3, ("text", "label"), {"io": 2, "list": 1}, 1)
    assert facts.named == NAMED
    assert facts.text_length["0%"] == min(len(row["body"]) for row in ROWS)
    jsonl, _ = run(write(tmp_path / "other.jsonl", ROWS), tmp_path / "again", columns=NAMED)
    assert facts.content == jsonl.content
    description = read_description(out)
    assert (description.classes, description.content) == (("io", "list"), facts.content)


def test_order_of_rows_is_part_of_the_content(tmp_path: Path) -> None:
    first, _ = run(write(tmp_path / "a.jsonl", ROWS), tmp_path / "w1", columns=NAMED)
    second, _ = run(write(tmp_path / "b.jsonl", ROWS[::-1]), tmp_path / "w2", columns=NAMED)
    assert first.content != second.content


def test_a_folder_of_files_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "2.jsonl", ROWS[1:])
    write(tmp_path / "d" / "1.jsonl", ROWS[:1])
    _, out = run(tmp_path / "d", tmp_path / "work", columns=NAMED)
    assert read_columns(out, ["text"])["text"] == [row["body"] for row in ROWS]
    write(tmp_path / "d" / "3.csv", ROWS)
    assert "mixes" in raised(SourceError, lambda: run(tmp_path / "d", tmp_path / "w2", columns=NAMED))


def test_columns_called_as_their_role_need_no_naming(tmp_path: Path) -> None:
    rows = [{"query": "q", "document": "d", "other": 1}]
    facts, _ = run(write(tmp_path / "rows.jsonl", rows), tmp_path / "work")
    assert facts.columns == ("query", "document")
    assert facts.unused == ("other",)


def test_source_that_changed_since_the_plan(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", ROWS)
    assert "changed" in raised(SourceError, lambda: run(source, tmp_path / "work", columns=NAMED, digest="sha256:another"))


def test_only_the_first_rows_are_taken(tmp_path: Path) -> None:
    facts, _ = run(write(tmp_path / "rows.jsonl", ROWS), tmp_path / "work", columns={"text": "body"}, maxRows=2)
    assert facts.rows == 2


def test_missing_column_suggests_the_near_one(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", ROWS)
    text = raised(DataError, lambda: run(source, tmp_path / "work", columns={"text": "boddy"}))
    assert "did you mean body?" in text
    assert "body, kind" in text
    assert "columns: {text: body}" in raised(DataError, lambda: run(source, tmp_path / "work"))


def test_one_class_only(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", ROWS[::2])
    assert "'io' in every row" in raised(DataError, lambda: run(source, tmp_path / "work", columns=NAMED))
    for field in ("spec.compress.calibration", "spec.index.data"):
        assert run(source, tmp_path / field, field=field, columns=NAMED)[0].classes == {"io": 2}, "no label is needed there"


def test_rows_that_are_each_a_group_of_their_own_are_of_use_to_their_copies_only(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", [{"text": "a", "id": 7, "none": None}, {"text": "b", "id": 8, "none": None}])
    text = raised(DataError, lambda: run(source, tmp_path / "work", columns={"group": "id"}))
    assert "no two rows are of one group" in text
    assert "2 groups of one row each" in text
    assert "add augment" in text
    facts, out = run(source, tmp_path / "copied", copied=True, columns={"group": "id"})
    assert (facts.grouped, read_columns(out, ["group"])) == (0, {"group": ["7", "8"]})
    null = raised(DataError, lambda: run(source, tmp_path / "null", copied=True, columns={"group": "none"}))
    assert "null in every row" in null


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.csv"])
def test_empty_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    raised(DataError, lambda: run(tmp_path / name, tmp_path / "work", columns=NAMED))


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("body,kind\n")
    raised(DataError, lambda: run(tmp_path / "rows.csv", tmp_path / "work", columns=NAMED))
    table = pyarrow.table({"body": pyarrow.array([], pyarrow.string())})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    raised(DataError, lambda: run(tmp_path / "rows.parquet", tmp_path / "work", columns={"text": "body"}))


@pytest.mark.parametrize("value", [None, "", "   ", "\n", 3, 2.5, True, ["a"]])
def test_texts_that_are_none_are_named_by_row(value: Any, tmp_path: Path) -> None:
    rows = [{"text": "good"}, {"text": value}] if value is None or isinstance(value, str) else [{"text": value}] * 2
    number = 2 if value is None or isinstance(value, str) else 1
    source = write(tmp_path / "rows.parquet", rows)
    assert f"row {number}" in raised(DataError, lambda: run(source, tmp_path / "work"))


def test_nan_is_no_text(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", [{"text": float("nan")}])
    assert "nothing in row 1" in raised(DataError, lambda: run(source, tmp_path / "work"))


@pytest.mark.parametrize("value", [None, "", "  ", " io", "io\n", 1.5])
def test_labels_that_are_none_are_named_by_row(value: Any, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": value}, {"text": "b", "label": value}]
    source = write(tmp_path / "rows.parquet", rows)
    assert "row 1 has no usable label" in raised(DataError, lambda: run(source, tmp_path / "work"))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_weights_are_numbers_where_they_are_named(suffix: str, tmp_path: Path) -> None:
    rows = [{"text": "a", "weight": 2}, {"text": "b", "weight": 0.5}, {"text": "c", "weight": 0}]
    source = write(tmp_path / f"rows{suffix}", rows)
    assert run(source, tmp_path / "by its name")[0].columns == ("text",)
    facts, out = run(source, tmp_path / "work", columns={"weight": "weight"})
    assert facts.named == {"text": "text", "weight": "weight"}
    assert read_columns(out, ["weight"])["weight"] == [2.0, 0.5, 0.0]
    other = write(tmp_path / f"other{suffix}", [*rows[:2], {"text": "c", "weight": 1}])
    assert run(other, tmp_path / "other", columns={"weight": "weight"})[0].content != facts.content


@pytest.mark.parametrize("value", [None, -1.0, float("nan"), float("inf")])
def test_weights_that_are_none_are_named_by_row(value: Any, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", [{"text": "a", "w": 1.0}, {"text": "b", "w": value}])
    message = raised(DataError, lambda: run(source, tmp_path / "work", columns={"weight": "w"}))
    assert "row 2 has no usable weight" in message and "0 or more" in message and "column w" in message


@pytest.mark.parametrize("cell", ["", "much", "-3", "nan"])
def test_one_odd_cell_among_weights_is_the_one_that_is_named(cell: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"text,w\na,1.5\nb,2\nc,{cell}\n")
    message = raised(DataError, lambda: run(tmp_path / "rows.csv", tmp_path / "work", columns={"weight": "w"}))
    assert "row 3 has no usable weight" in message


def test_weights_of_0_alone_and_a_column_that_is_not_there(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", [{"text": "a", "w": 0}, {"text": "b", "w": 0}])
    assert "0 in every row" in raised(DataError, lambda: run(source, tmp_path / "work", columns={"weight": "w"}))
    assert "did you mean w?" in raised(DataError, lambda: run(source, tmp_path / "work", columns={"weight": "ww"}))


def test_whole_numbers_are_labels(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", [{"text": "a", "label": 3}, {"text": "b", "label": 10}])
    facts, _ = run(source, tmp_path / "work")
    assert facts.classes == {"10": 1, "3": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", b'{"text": "a"}\n{"text": \n'),
        ("rows.parquet", b"PAR1 no parquet"),
        ("rows.csv", b'a,b\n"x,1\n'),
        ("rows.jsonl", b"\xff\xfe"),
    ],
)
def test_files_that_cannot_be_parsed(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError):
        run(tmp_path / name, tmp_path / "work", columns={"text": "text"})


def test_the_line_that_is_no_json_is_named_as_an_editor_counts(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n\n{"text": "b}\n{"text": "c"}\n')
    said = raised(SourceError, lambda: run(rows, tmp_path / "work"))
    assert "rows.jsonl: line 3, column 10: Unterminated string" in said
    rows.write_bytes('{"text": "a"}\n{"text": "café"}\n'.encode("latin-1"))
    said = raised(SourceError, lambda: run(rows, tmp_path / "work"))
    assert "row 2: " in said
    assert "fix:     save it as UTF-8" in said


def test_a_number_among_texts_is_told_as_one(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n{"text": 5}\n')
    said = raised(DataError, lambda: run(rows, tmp_path / "work"))
    assert "row 2 has a number where its text belongs" in said
    assert 'in JSON with quotes: "5"' in said


def test_other_formats_are_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "rows.pkl").write_bytes(b"x")
    assert ".parquet" in raised(SourceError, lambda: run(tmp_path / "rows.pkl", tmp_path / "work"))


def images(folder: Path, values: Sequence[Any], labels: Sequence[str] = ("a", "b")) -> Path:
    return write(folder / "rows.parquet", [{"image": value, "label": label} for value, label in zip(values, labels, strict=True)])


def test_images_as_lists_of_numbers(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    facts, out = run(images(tmp_path, pixels.tolist()), tmp_path / "work")
    assert facts.image_shape == (1, 3, 4)
    np.testing.assert_array_equal(np.array(read_columns(out, ["image"])["image"]).reshape(2, 3, 4), pixels)
    flat, _ = run(images(tmp_path, pixels.reshape(2, -1).tolist()), tmp_path / "flat")
    assert flat.image_shape == (12,)


def test_images_as_png(tmp_path: Path) -> None:
    from PIL import Image

    colours = np.zeros((5, 4, 3), np.uint8)
    colours[1, 2] = (255, 0, 51)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG")
    facts, out = run(images(tmp_path, [buffer.getvalue()] * 2), tmp_path / "work")
    assert facts.image_shape == (3, 5, 4)
    first = np.array(read_columns(out, ["image"])["image"][0]).reshape(3, 5, 4)
    np.testing.assert_allclose(first[:, 1, 2], [1.0, 0.0, 0.2], atol=1e-6)
    raised(DataError, lambda: run(images(tmp_path, [buffer.getvalue(), buffer.getvalue()[:40]]), tmp_path / "cut"))


@pytest.mark.parametrize(
    "values",
    [
        [[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]],
        [[1.0, float("nan")], [1.0, 2.0]],
        [[1.0, float("inf")], [1.0, 2.0]],
        [None, [1.0]],
        [[], [1.0]],
        [b"no picture", b"x"],
    ],
)
def test_images_that_cannot_be_used(values: list[Any], tmp_path: Path) -> None:
    assert "no usable image" in raised(DataError, lambda: run(images(tmp_path, values), tmp_path / "work"))


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    progress = Recorder()
    rows = [{"text": f"text {number}"} for number in range(10_000)]
    run(write(tmp_path / "rows.jsonl", rows), tmp_path / "work", progress)
    done = [update[0] for update in progress.updates if update[2] == "rows"]
    assert done == sorted(done)
    assert len(done) >= 3
    assert done[-1] == 10_000


def test_what_the_data_is_for_decides_whether_half_a_pair_will_do(tmp_path: Path) -> None:
    source = write(tmp_path / "half.jsonl", [{"query": "read a file", "document_id": "3"}, {"query": "sort", "document_id": "4"}])
    _, out = run(source, tmp_path / "calibration", field="spec.compress.calibration")
    assert read_columns(out, ["query"])["query"] == ["read a file", "sort"]
    for field in ("spec.distill.data", "spec.distill.validation", "spec.gate.data", "spec.index.data"):
        with pytest.raises(DataError):
            run(source, tmp_path / field, field=field)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\na,b\n"),
        ("a.csv", "\ufefftext,label\r\na,b\r\n"),
        ("a.csv", '\n\n"a, quoted ""name""",label\na,b\n'),
        ("a.csv", ",text\n0,a\n"),
        ("a.csv", "text;label\na;b\n"),
        ("a.csv", '" text",text \nc,d\n'),
        ("a.jsonl", '{"text": "a"}\n\n{"text": "b", "label": "c"}\n'),
    ],
)
def test_the_columns_that_a_preview_tells_are_the_imports(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert header(tmp_path / name) == list(open_table(tmp_path / name, tmp_path / "cache").column_names)


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "text\na\n".encode("utf-16")), ("a.csv", b"text\n\n"), ("a.parquet", b"none"), ("a.csv", b"")]
)
def test_what_a_preview_refuses_the_import_refuses_alike(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as early:
        header(tmp_path / name)
    with pytest.raises(type(early.value)) as late:
        open_table(tmp_path / name, tmp_path / "cache")
    assert dataclasses.replace(early.value.problem, found="") == dataclasses.replace(late.value.problem, found="")


# the files themselves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [".2.jsonl", ".old/2.jsonl", "a/.b/2.jsonl", "a/b/c/d/e/f/2.jsonl"])
def test_what_the_digest_does_not_cover_is_not_read(other: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    deepest = folder / "a/b/c/d/e"
    deepest.mkdir(parents=True)
    write(folder / "1.jsonl", ROWS[:1])
    write(deepest / "1.jsonl", ROWS[1:2])
    before = pinned(folder)
    (folder / other).parent.mkdir(parents=True, exist_ok=True)
    write(folder / other, ROWS)
    assert pinned(folder) == before
    assert data_files(folder) == [folder / "1.jsonl", deepest / "1.jsonl"]
    _, out = run(folder, tmp_path / "work", columns={"text": "body"})
    assert read_columns(out, ["text"])["text"] == [row["body"] for row in ROWS[:2]]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
@pytest.mark.parametrize("whole", [True, False])
def test_signs_of_patterns_in_a_path_are_letters(whole: bool, suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "[ab]*" / "**?"
    folder.mkdir(parents=True)
    source = write(folder / f"rows[12]{suffix}", ROWS)
    for decoy in (tmp_path / "a" / "xx" / f"rows1{suffix}", tmp_path / f"rows1{suffix}"):
        decoy.parent.mkdir(parents=True, exist_ok=True)
        write(decoy, ROWS[:1])
    _, out = run(folder if whole else source, tmp_path / "work", columns=NAMED)
    assert read_columns(out, ["text"])["text"] == [row["body"] for row in ROWS]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_a_file_that_was_replaced_is_read_again(suffix: str, tmp_path: Path) -> None:
    """An interrupted import leaves its cache behind."""
    for number, text in enumerate(("one", "two"), 1):
        path = write(tmp_path / f"rows{suffix}", [{"text": text}] * 2)
        os.utime(path, ns=(number, number))
        assert open_table(path, tmp_path / "cache")["text"][0] == text


def test_rows_that_are_nested_too_deeply_are_bad_data_in_every_file(tmp_path: Path) -> None:
    """The parser would end the process without a word."""
    folder = tmp_path / "d"
    folder.mkdir()
    write(folder / "1.jsonl", [{"text": "a"}])
    (folder / "2.jsonl").write_text('{"text": "b"}\n{"text": "c", "more": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    assert header(folder) == ["text"]
    assert "2.jsonl: line 2 is nested too deeply" in raised(SourceError, lambda: run(folder, tmp_path / "work"))
    wide = [{"text": "a", "more": [[0]] * 1000}] * 2
    assert run(write(tmp_path / "wide.jsonl", wide), tmp_path / "wide")[0].rows == 2


def test_a_full_disk_is_not_told_as_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def full(*_: Any, **__: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("An error occurred while generating the dataset") from error

    monkeypatch.setattr(datasets.Dataset, "from_json", full)
    with pytest.raises(RuntimeError) as told:
        run(write(tmp_path / "rows.jsonl", ROWS), tmp_path / "work", columns=NAMED)
    assert disk_full(told.value), "the runner says which disk, and the way out"


def test_a_file_that_may_no_longer_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest is known from before."""
    import builtins

    source = write(tmp_path / "rows.jsonl", ROWS)
    digest = pinned(source)
    refuse(monkeypatch, builtins, "open", source.__eq__)
    refuse(monkeypatch, io, "open", source.__eq__)
    text = raised(SourceError, lambda: run(source, tmp_path / "work", columns=NAMED, digest=digest))
    assert text.startswith("data.uri: the source cannot be read")
    assert "ask its owner for the right to read it" in text


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("text,label\nRead, and write,io\nSort,list\n", 2),
        ("text,label\nSort,list\nRead, and write,io\n", 3),
        ('text,label\n"a\nb",list\n\nRead, and write,io\n', 5),
        ("\ufefftext,label\r\nSort,list,\r\n", 2),
    ],
)
def test_a_text_with_commas_and_no_quotes_loses_nothing(content: str, line: int, tmp_path: Path) -> None:
    """pandas would make an index of the first columns, and the start of each row would be gone."""
    source = tmp_path / "rows.csv"
    source.write_bytes(content.encode())
    text = raised(DataError, lambda: run(source, tmp_path / "work"))
    assert f"rows.csv: line {line}: 3 fields" in text
    assert "needs quotes" in text


def test_long_quoted_texts_of_csv_are_read_whole(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    long = "a, b\n" * 100_000
    _, out = run(write(tmp_path / "rows.csv", [{"text": long}] * 2), tmp_path / "work")
    assert read_columns(out, ["text"])["text"] == [long] * 2
    assert csv.field_size_limit() == limit


def test_a_header_that_names_a_column_twice_is_no_header(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("text,text,label\na,b,io\n")
    assert "names a column twice" in raised(DataError, lambda: run(source, tmp_path / "work"))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_bytes_that_are_no_utf8_are_bad_data(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        source.write_bytes(b"text\none\nS\xe4ge\n")
        where = "rows.csv"
    else:
        raw = pyarrow.array([b"one", b"two", b"S\xe4ge", b"four"]).view(pyarrow.binary())
        offsets = pyarrow.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
        pyarrow.parquet.write_table(pyarrow.table({"text": offsets}), source)
        where = "row 3"
    text = raised(SourceError, lambda: run(source, tmp_path / "work"))
    assert "cannot be parsed" in text
    assert where in text
    assert "utf-8" in text


def test_the_library_says_nothing_beside_the_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import datasets

    level = datasets.utils.logging.get_verbosity()
    source = tmp_path / "rows.jsonl"
    source.write_text('{"text": "a"}\n{"text": \n')
    with caplog.at_level("INFO"):
        raised(SourceError, lambda: run(source, tmp_path / "work"))
    assert not caplog.records
    assert datasets.utils.logging.get_verbosity() == level
