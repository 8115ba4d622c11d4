"""Rows of a CSV file: as many fields as the header names, before a parser makes something else of them."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

from stillhouse.errors import DataError

__all__ = ["check_csv"]

_SHOWN = 120


def check_csv(path: Path) -> None:
    """Refuse a header that names a column twice, and rows with more fields than the header has.

    pandas, which `datasets` reads with, takes the first columns of such rows for an index: the start of every row would be
    lost without a word. Rows with fewer fields have nulls, which the roles judge.

    Raises:
        DataError: with the line.
        UnicodeDecodeError: the file is not UTF-8.
        OSError: it cannot be read.
    """
    limit = csv.field_size_limit(sys.maxsize)  # a long text is no mistake; the limit belongs to the whole process
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next((row for row in rows if row), [])
            twice = [name for name, count in Counter(header).items() if count > 1]
            if twice:
                raise DataError(
                    "the header names a column twice",
                    field="data.uri",
                    found=f"{path.name}: {', '.join(repr(name[:40]) for name in twice[:5])}",
                    allowed="a header line with each name once",
                    fix="rename one; where the file has no header line, write one above the rows",
                )
            before = rows.line_num
            for row in rows:
                if len(row) > len(header):
                    raise DataError(
                        "a row has more fields than the header",
                        field="data.uri",
                        found=f"{path.name}: line {before + 1}: {len(row)} fields: {','.join(row)[:_SHOWN]}",
                        allowed=f"{len(header)}: {', '.join(header)}"[:300],
                        fix='a text with commas needs quotes: "one, two",label (Python\'s csv.writer, pandas and '
                        "spreadsheets write them); or use JSON lines",
                    )
                before = rows.line_num
    finally:
        csv.field_size_limit(limit)
