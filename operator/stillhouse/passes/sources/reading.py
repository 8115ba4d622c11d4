"""Opening data: Parquet, JSONL or CSV, one file or a folder of files, as a table that is not in memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillhouse.clients.sources.access import unreadable
from stillhouse.clients.sources.selection import used_files
from stillhouse.clients.store.files import disk_full
from stillhouse.errors import DataError, MissingPackages, SourceError
from stillhouse.extras import install
from stillhouse.passes.sources.csv_rows import check_csv

__all__ = ["BATCH", "data_files", "no_rows", "open_table", "unparsable"]

BATCH = 4096
"""Rows that are read at once."""
_READERS = {".parquet": "from_parquet", ".jsonl": "from_json", ".csv": "from_csv"}
_NO_UTF8 = ("codec can't decode", "UTF-16", "UTF8", "UTF-8")
_DEEP = 500
"""Brackets in a line of JSON below which it need not be asked how deeply they are nested."""


def data_files(source: Path) -> list[Path]:
    """Return the files of the data in the order in which they are read, all of one format: files that its digest covers.

    Raises:
        SourceError: they are of another format, or of several.
        DataError: one is empty.
        OSError: the folder cannot be read.
    """
    files = [source] if source.is_file() else sorted(path for path in used_files(source).values() if path.suffix in _READERS)
    formats = sorted({path.suffix for path in files})
    if len(formats) != 1 or formats[0] not in _READERS:
        raise SourceError(
            "the data's format is not known" if len(formats) < 2 else "the folder mixes formats",
            field="data.uri",
            found=", ".join(formats) or source.name,
            allowed=".parquet, .jsonl or .csv",
            fix="name one file, or a folder with files of one format",
        )
    empty = [path for path in files if path.stat().st_size == 0]
    if empty:
        raise DataError(
            "the file is empty", field="data.uri", found=empty[0].name, allowed="rows", fix="check how the file was made"
        )
    return files


def open_table(source: Path, cache: Path, texts: Sequence[str] = ()) -> Any:
    """Return the data as a `datasets.Dataset`, kept on disk in `cache`.

    `texts`: columns of CSV that are read as they are written.

    Raises:
        SourceError: the file is of another format, or cannot be read or parsed.
        DataError: there are no rows, or those of a CSV file do not fit its header.
        MissingPackages: `datasets` is not installed.
        OSError: the folder cannot be read, or the disk is full.
    """
    files = data_files(source)
    suffix = files[0].suffix
    if suffix == ".jsonl":
        for path in files:
            _refuse_deep(path)
    elif suffix == ".csv":
        for path in files:
            try:
                check_csv(path)
            except (UnicodeDecodeError, csv.Error) as error:
                raise unparsable(path.name, error) from error
    try:
        import datasets
        from datasets.data_files import DataFilesDict, DataFilesList
    except ImportError as error:
        raise MissingPackages("reading data needs datasets", found=str(error), fix=install("build")) from error
    # A text "NA" is a text; a Parquet file without row groups has no batch size of its own.
    choices: dict[str, dict[str, Any]] = {".csv": {"keep_default_na": False}, ".parquet": {"batch_size": BATCH}}
    options = choices.get(suffix, {})
    if suffix == ".csv" and texts:
        options["features"] = datasets.Features({name: datasets.Value("string") for name in texts})
    # Names, and no patterns: `datasets` would take [ ] * ? in a path for more than they are. The time tells a file from what
    # stood there when an earlier run filled the cache.
    paths, times = [str(path.absolute()) for path in files], [(str(path.stat().st_mtime_ns),) for path in files]
    names = DataFilesDict({"train": DataFilesList(paths, times)})
    logging = datasets.utils.logging
    progress, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)  # what it logs before it raises, our error says
    try:
        read = getattr(datasets.Dataset, _READERS[suffix])
        return read(names, split="train", cache_dir=str(cache), keep_in_memory=False, **options)
    except Exception as error:  # parsers of three formats, wrapped differently by every release
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if disk_full(error):
            raise
        if isinstance(cause, PermissionError) and cause.filename in paths:
            raise unreadable(cause, source.name, "data.uri") from error
        if "corresponds to no data" in str(error):  # how datasets says that a header stands alone
            raise no_rows(source.name) from error
        if suffix == ".jsonl":
            _refuse_line(files)
        raise unparsable(source.name, cause) from error
    finally:
        logging.set_verbosity(verbosity)
        if progress:
            logging.enable_progress_bar()


def _refuse_deep(path: Path) -> None:
    """Look for what would end the process: the parser, which is C++, does not watch its stack."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.count(b"[") + line.count(b"{") < _DEEP:
                continue
            try:
                json.loads(line)
            except RecursionError as error:
                raise unparsable(path.name, f"line {number} is nested too deeply") from error
            except ValueError:  # the parser will say it better
                continue


def _refuse_line(files: list[Path]) -> None:
    """Name the line that is no JSON: the parser counts rows from 0, and anew in every block."""
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    if line.strip():
                        json.loads(line.rstrip(b"\r\n"))
                except json.JSONDecodeError as error:
                    if line.lstrip().startswith(b"["):  # one array over many lines
                        return
                    raise unparsable(path.name, f"line {number}, column {error.colno}: {error.msg}") from error
                except UnicodeDecodeError as error:
                    raise unparsable(path.name, f"line {number}: {error}") from error


def unparsable(name: str, cause: BaseException | str) -> SourceError:
    """Return what is raised where a file is not what its name says."""
    encoding = isinstance(cause, UnicodeDecodeError) or any(sign in str(cause) for sign in _NO_UTF8)
    return SourceError(
        "the data cannot be parsed",
        field="data.uri",
        found=f"{name}: {cause}".splitlines()[0][:300],
        allowed="valid Parquet, JSON lines (UTF-8, one object a line) or CSV (with a header line)",
        fix="save it as UTF-8" if encoding else "check the file: is it whole, and does its name end as its format does?",
    )


def no_rows(name: str) -> DataError:
    """Return what is raised where there is not one row."""
    return DataError(
        "the data has no rows", field="data.uri", found=name, allowed="at least one row", fix="check how the file was made"
    )
