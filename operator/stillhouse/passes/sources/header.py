"""The columns of data without its rows, so that a misspelt one is found before anything is imported or trained."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from stillhouse.passes.sources.reading import data_files, no_rows, unparsable

__all__ = ["header"]

_BYTES = 10 << 20
"""How much of a JSONL file is looked at: as much as decides the import's columns."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_PACKED = (b"\x1f\x8b", b"PK", b"BZh", b"\xfd7zXZ", b"7z", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
"""How compressed files begin, which the import unpacks whatever their names are."""


def header(source: Path) -> list[str] | None:
    """Return the names of the columns that an import will find, None where only the import itself can tell.

    Never stricter than the import: what it may be able to read is left to it.

    Raises:
        SourceError: the data is of another format, or cannot be parsed.
        DataError: there are no rows.
    """
    files = data_files(source)
    first = files[0]  # the others must agree with it, which the import sees
    with first.open("rb") as file:
        if file.read(8).startswith(_PACKED):
            return None
    names, rows = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}[first.suffix](first)
    if not rows and len(files) == 1:
        raise no_rows(source.name)
    return names


def _parquet(path: Path) -> tuple[list[str] | None, bool]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None, True
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            return list(file.schema_arrow.names), file.metadata.num_rows > 0
    except pyarrow.ArrowInvalid as error:
        raise unparsable(path.name, error) from error


def _jsonl(path: Path) -> tuple[list[str] | None, bool]:
    with path.open("rb") as file:
        text = file.read(_BYTES)
        text += file.readline()
    names: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except RecursionError as error:
            raise unparsable(path.name, f"line {number} is nested too deeply") from error
        except ValueError:  # perhaps one array over many lines, which can be read as well
            return None, True
        if not isinstance(row, dict):
            return None, True
        names.update(dict.fromkeys(row))
    return list(names) or None, True


def _csv(path: Path) -> tuple[list[str] | None, bool]:
    with path.open("rb") as file:
        if file.read(2) in _UTF16:
            raise unparsable(path.name, "the text is UTF-16")
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            lines = _lines(text)
            found = next(lines, None)
            rows = next(lines, None) is not None
    except UnicodeDecodeError as error:  # the import reads the whole file, and refuses it wherever it is none
        raise unparsable(path.name, error) from error
    except csv.Error:  # the rows may be at fault, not the header
        return None, True
    if found is None or len(set(found)) < len(found):  # the parser renames what stands there twice
        return None, True
    return [name or f"Unnamed: {position}" for position, name in enumerate(found)], rows


def _lines(text: Iterator[str]) -> Iterator[list[str]]:
    """Yield the lines that are not blank."""
    return (line for line in csv.reader(text) if line and line != [""])
