"""Which column plays which role: what the resource names, what is called as its role, and what was meant by a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal

from stillhouse.errors import DataError

__all__ = ["Role", "choose"]

Role = Literal["text", "label", "image", "query", "document", "name", "group"]
_ROLES: tuple[Role, ...] = ("text", "label", "image", "query", "document", "name", "group")
_PAIR: tuple[Role, ...] = ("query", "document")
_SHOWN: tuple[Role, ...] = ("text", "image", *_PAIR)


def choose(named: Mapping[Role, str], there: list[str]) -> dict[Role, str]:
    """Return role → column of a table with the columns `there`; `named` are those that the resource names.

    Raises:
        DataError: a column that is named is not there, or nothing is there that a model could be shown.
    """
    for role, column in named.items():
        if column not in there:
            near = difflib.get_close_matches(column, there, n=1, cutoff=0.5)
            raise DataError(
                "the data has no such column",
                field=f"data.columns.{role}",
                found=column,
                allowed=", ".join(there[:20]) or "no columns at all",
                fix=f"did you mean {near[0]}?" if near else f"write columns: {{{role}: {there[0] if there else 'COLUMN'}}}",
            )
    # Many tables have a column "group" that means something else: this role counts only where it is named.
    chosen = {role: named.get(role, str(role)) for role in _ROLES if role in named or (role in there and role != "group")}
    _refuse_misspelt(chosen, there)
    return chosen


def _refuse_misspelt(chosen: Mapping[Role, str], there: list[str]) -> None:
    """Refuse data with nothing to show to a model, and half a pair whose other half is there under a similar name.

    Only here is it known what else the file holds. Half a pair by itself is let through: it can calibrate.
    """
    shown = [role for role in _SHOWN if role in chosen]
    if "text" in shown or "image" in shown or len(shown) == 2:
        return
    unused = {name.lower(): name for name in there if name not in chosen.values()}
    wanted = [role for role in (_PAIR if shown else _SHOWN) if role not in shown]
    near = {role: difflib.get_close_matches(role, list(unused), n=1, cutoff=0.6) for role in wanted}
    likely = {role: unused[names[0]] for role, names in near.items() if names}
    if shown and not likely:
        return
    example = ", ".join(f"{role}: {column}" for role, column in likely.items())
    if shown:
        missing = wanted[0]
        message, field = f"there is a column {shown[0]}, but none {missing}", f"data.columns.{missing}"
        fix = f"did you mean {likely[missing]}? write columns: {{{example}}}; rows that are no pairs: columns: {{text: COLUMN}}"
    else:
        message, field = ("no column holds what a model is shown" if chosen else "no column has a role"), "data.columns"
        guess = next(iter(unused.values()), "COLUMN")
        fix = f"did you mean {' and '.join(likely.values())}? write columns: {{{example}}}"
        fix = fix if likely else f"name the one with the texts: columns: {{text: {guess}}}"
    raise DataError(
        message,
        field=field,
        found=", ".join(there[:20]),
        allowed="text, image, or query and document (pairs, which mrr@k needs); beside them label, name, group",
        fix=fix,
    )
