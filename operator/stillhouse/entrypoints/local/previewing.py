"""What can be told of data before it is imported: whether its columns will do, and whether the gate's rows were trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from stillhouse.api.model import Spec
from stillhouse.api.source import DataSource, columns_of
from stillhouse.clients.sources.access import unreadable
from stillhouse.errors import DataError, Problem, StillhouseError
from stillhouse.passes.sources.columns import SHOWN, Role, choose, need_of
from stillhouse.passes.sources.header import header
from stillhouse.passes.sources.reading import data_files
from stillhouse.planning.request import data_sources

__all__ = ["preview", "refuse_same"]

_GATE, _VALIDATION, _TRAINING = "spec.gate.data", "spec.distill.validation", "spec.distill.data"
_APART = (
    (_GATE, _TRAINING),
    (_GATE, "spec.compress.calibration"),
    (_GATE, _VALIDATION),
    (_VALIDATION, _TRAINING),
)
"""What judges must hold no row of what was learned from or tuned on: (judge, other) each."""


def preview(place: str, data: DataSource, path: Path) -> Mapping[Role, str] | None:
    """Return role → column of the data that stands at `place`, None where only the import can tell.

    Raises:
        SourceError, DataError: what the import would say, its fields relative (`data.columns.text`).
    """
    try:
        there = header(path)
    except OSError as error:
        raise unreadable(error, data.uri, "data.uri") from error
    named: Mapping[Role, str] = columns_of(data)  # type: ignore[assignment]  # the resource has no other roles
    return None if there is None else choose(named, there, need_of(place))


def refuse_same(
    spec: Spec, paths: Mapping[str, Path], columns: Mapping[str, Mapping[Role, str] | None], digest: Callable[[Path], str]
) -> None:
    """Refuse what judges (gate, validation) where it reads the same columns of the same file as what is judged by it.

    Wherever the copy lies: files are compared by their contents.

    `paths` and `columns`: what stands at each place, as far as it is known; `digest` tells files apart.

    Raises:
        DataError: it does; `others` holds the further ones.
    """
    data = data_sources(spec)
    problems = []
    for judge, other in _APART:
        known = {judge, other} <= columns.keys()
        if not known or not _same_columns(data[judge], data[other], columns[judge], columns[other]):
            continue
        theirs = {digest(file) for file in _read(data[other], paths[other])}
        shared = next((file for file in _read(data[judge], paths[judge]) if digest(file) in theirs and _has_rows(file)), None)
        if shared is not None:
            problems.append(
                Problem(
                    f"the data leaks: the rows of {judge} are also in {other}",
                    field=f"{judge}.uri",
                    found=f"{shared} is also what {other}.uri names: {data[other].uri}",
                    allowed="splits that share no text (case and white space do not count)",
                    fix=f"split the rows into two files and name one in {judge}.uri, the other in {other}.uri",
                )
            )
    if problems:
        raise DataError.of(problems)


def _same_columns(a: DataSource, b: DataSource, found_a: Mapping[Role, str] | None, found_b: Mapping[Role, str] | None) -> bool:
    """Say whether a model is shown one column in both. Queries in one and their documents in the other may well differ."""
    if found_a is None or found_b is None:
        return columns_of(a) == columns_of(b)
    shown = [{column for role, column in found.items() if role in SHOWN} for found in (found_a, found_b)]
    return bool(shown[0] & shown[1])


def _read(data: DataSource, path: Path) -> list[Path]:
    """Return the files of which the first row, at least, is read."""
    files = data_files(path)
    return files if data.max_rows is None else files[:1]


def _has_rows(file: Path) -> bool:
    """Say whether a file holds anything that can leak: empty parts of two folders are alike."""
    try:
        header(file)
    except (StillhouseError, OSError):
        return False
    return True
