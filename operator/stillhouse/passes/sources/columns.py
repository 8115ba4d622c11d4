"""Which column plays which role: what the resource names, what is called as its role, and what was meant by a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from stillhouse.errors import DataError

__all__ = ["ARRAYS", "ASKED_FOR", "SHOWN", "Need", "Role", "array_role", "choose", "guess_of", "need_of"]

Role = Literal["text", "label", "image", "features", "query", "document", "name", "group", "weight"]
Need = Literal["rows", "any", "text"]
"""What the data must show to a model: rows (texts, images or whole pairs), anything (half a pair calibrates), or texts."""
_ROLES: tuple[Role, ...] = ("text", "label", "image", "query", "document", "name", "group", "weight")
_PAIR: tuple[Role, ...] = ("query", "document")
SHOWN: tuple[Role, ...] = ("text", "image", "features", *_PAIR)
"""What a model is shown; the other roles only say something of it."""
ARRAYS: tuple[Role, ...] = ("image", "features")
"""Of these the ones that are numbers: told apart by digests alone, and of one length in all rows."""
ASKED_FOR: tuple[Role, ...] = ("group", "weight")
"""Many tables have columns of these names that mean something else: such a role counts only where it is named."""
_OF_ANY: tuple[Role, ...] = ("text", "image", *_PAIR)
_OF_IMAGES: tuple[Role, ...] = ("image",)
_OF_TEXTS: tuple[Role, ...] = ("text", *_PAIR)
_NEEDS: dict[str, Need] = {"spec.compress.calibration": "any", "spec.index.data": "text"}
"""What data is for decides whether it will do, never how it is written: that is why it is no part of an import's key."""
_ALLOWED: dict[Need, str] = {
    "rows": "text, image, or query and document (pairs, which mrr@k needs); beside them label, name, group",
    "any": "a column of texts (text, query or document), or image; the others are not read",
    "text": "text, and beside it name",
}
_ALLOWED_TEXTS = "text, or query and document (pairs, which mrr@k needs); beside them label, name, group"
_ALLOWED_IMAGES = "image; beside it label"
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_NAME = 40
"""Letters of the longest name that is taken for one; a line of texts has longer ones."""


def need_of(field: str) -> Need:
    """Return what the data that stands at `field` of the resource must show."""
    return _NEEDS.get(field, "rows")


def array_role(columns: Iterable[str]) -> Role | None:
    """Return which of these columns holds a row's numbers, None where rows are texts."""
    there = set(columns)
    return next((role for role in ARRAYS if role in there), None)


def choose(named: Mapping[Role, str], there: list[str], need: Need = "rows", *, images: bool | None = None) -> dict[Role, str]:
    """Return role → column of a table with the columns `there`; `named` are those that the resource names.

    `images` says whether the task is shown images or texts; None: not known, either will do.

    Raises:
        DataError: a column that is named is not there, or what is there is not what is needed.
    """
    if "features" in named:
        raise DataError(
            "a column of features belongs to task time-series-classification",
            field="data.columns.features",
            found=named["features"],
            fix="leave it out, or give source.task and source.features",
        )
    for role, column in named.items():
        if column not in there:
            free = [name for name in there if name not in named.values()]
            near = difflib.get_close_matches(column, free, n=1, cutoff=0.5)
            if not near:
                _refuse_odd_names(there)
            raise DataError(
                "the data has no such column",
                field=f"data.columns.{role}",
                found=column,
                allowed=", ".join(there[:20]) or "no columns at all",
                fix=f"did you mean {near[0]}?" if near else f"write columns: {{{role}: {guess_of(role, free)}}}",
            )
    # A column that was given another role has that one alone.
    by_name = [role for role in _ROLES if role in there and role not in named.values() and role not in ASKED_FOR]
    chosen = {role: named.get(role, str(role)) for role in _ROLES if role in named or role in by_name}
    _refuse_useless(chosen, there, need, images)
    return chosen


def guess_of(role: Role, free: Sequence[str]) -> str:
    """Return one of the columns that no other role has, and for a role of numbers none: which of them are is not known here."""
    return free[0] if free and role != "weight" else "COLUMN"


def _refuse_useless(chosen: Mapping[Role, str], there: list[str], need: Need, images: bool | None) -> None:
    """Refuse data without what is needed of it. Only here is it known what else the file holds, and so what was meant."""
    takes = _OF_ANY if images is None else _OF_IMAGES if images else _OF_TEXTS
    shown = [role for role in takes if role in chosen]
    rows = "text" in shown or "image" in shown or len(shown) == 2
    if {"rows": rows, "any": bool(shown), "text": "text" in shown}[need]:
        return
    unused = {name.lower(): name for name in there if name not in chosen.values()}
    half = need == "rows" and bool(shown)
    wanted = [role for role in (_PAIR if half else ("text",) if need == "text" else takes) if role not in shown]
    near = {role: difflib.get_close_matches(role, list(unused), n=1, cutoff=0.6) for role in wanted}
    likely = {role: unused[names[0]] for role, names in near.items() if names}
    if not likely:
        _refuse_odd_names(there)
    example = ", ".join(f"{role}: {column}" for role, column in likely.items())
    fix = f"did you mean {' and '.join(likely.values())}? write columns: {{{example}}}" if likely else ""
    if half:
        missing = wanted[0]
        message, field = f"there is a column {shown[0]}, but none {missing}", f"data.columns.{missing}"
        fix = fix or f"name the column that holds it: columns: {{{missing}: COLUMN}}"
        fix += "; rows that are no pairs: columns: {text: COLUMN}"
    else:
        message, field = ("no column holds what a model is shown" if chosen else "no column has a role"), "data.columns"
        guess = next(iter(unused.values()), "COLUMN")
        if need == "text" and shown:
            message, field = f"there is a column {shown[0]}, but none text, which is what is searched", "data.columns.text"
            guess = chosen.get("document", chosen[shown[0]])
        what, role = ("images", "image") if images else ("texts", "text")
        fix = fix or f"name the one with the {what}: columns: {{{role}: {guess}}}"
    allowed = _ALLOWED[need] if need != "rows" or images is None else _ALLOWED_IMAGES if images else _ALLOWED_TEXTS
    raise DataError(message, field=field, found=", ".join(there[:20]), allowed=allowed, fix=fix)


def _refuse_odd_names(there: list[str]) -> None:
    """Refuse names that are a whole line, or a row: no role is missing then, the file is written in another way."""
    separator = next((each for each in _SEPARATORS if len(there) == 1 and each in there[0]), None)
    if separator is not None:
        raise DataError(
            f"the columns are separated by {_SEPARATORS[separator]}",
            field="data.uri",
            found=f"one column, named {there[0][:100]!r}",
            allowed="a CSV file with commas between the columns",
            fix="save it with commas (in a spreadsheet: CSV, comma delimited), or as .jsonl or .parquet",
        )
    if not any(_is_row(name) for name in there) and not (there and all(_is_number(name) for name in there)):
        return
    raise DataError(
        "the first line is taken for the names of the columns, and looks like a row",
        field="data.uri",
        found=", ".join(repr(name[:_NAME]) for name in there[:8]),
        allowed="a header line with each column's name, for example: text,label",
        fix="write a header line above the rows",
    )


def _is_row(name: str) -> bool:
    return len(name) > _NAME or len(name.split()) > 3 or name.endswith((".", "?", "!"))


def _is_number(name: str) -> bool:
    return name.replace(".", "", 1).removeprefix("-").isdigit()
