"""When there is too little to learn from: longer training or a larger student then does not help, other data does."""

from __future__ import annotations

from stillhouse.api.source import TEXT_TASKS

__all__ = ["FEW_ROWS", "after_the_gate", "beforehand"]

FEW_ROWS = 5_000
"""A student of 400 texts kept a quarter of its teacher's MRR however long it trained; one of 16,000 keeps four fifths."""


def beforehand(rows: int | None, task: str) -> str:
    """Return a warning about so few training rows (None: not known), or "".

    Images and numbers are left alone: a small network has learnt digits from a thousand.
    """
    if rows is None or rows >= FEW_ROWS or task not in TEXT_TASKS:
        return ""
    return (
        f"spec.distill.data: {rows:,} rows are few to learn from (below {FEW_ROWS:,}): add text, which needs no labels unless a"
        " loss uses them, or leave spec.distill out: compression alone keeps nearly all of the teacher"
    )


def after_the_gate(rows: int | None, *, alone: bool = True, unlabelled: bool = False, labelled: bool = False) -> str:
    """Return what to try after a student trained on so many rows (None: not known) has failed.

    `alone`: quality was all it missed; the teacher itself would miss what a student is too large or too slow for.
    `unlabelled`: `rows` counts those of `spec.distill.unlabelled` too. `labelled`: the rows have labels, so that more of
    them without have a place of their own.
    """
    longer = "train longer or a larger student (spec.distill)" if alone else "train longer (spec.distill)"
    if rows is None or rows >= FEW_ROWS:
        return longer
    instead = ", or leave spec.distill out: compression alone keeps nearly all of the teacher" if alone else ""
    where = "; rows without labels go into spec.distill.unlabelled" if labelled else ""
    if unlabelled:
        where = " and spec.distill.unlabelled"
    return f"give it more to learn from ({rows:,} rows now: spec.distill.data{where}){instead}; only with more data {longer}"
