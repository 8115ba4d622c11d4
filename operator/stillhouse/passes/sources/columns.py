"""Which column plays which role: what the resource names, what is called as its role, and what was meant where it is misspelt."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal

from stillhouse.errors import DataError

__all__ = ["Role", "choose"]

Role = Literal["text", "label", "image", "query", "document", "name", "group"]
_ROLES: tuple[Role, ...] = ("text", "label", "image", "query", "document", "name", "group")


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
    if not chosen:
        raise DataError(
            "no column has a role",
            field="data.columns",
            found=", ".join(there[:20]),
            allowed=", ".join(_ROLES),
            fix=f"name the one with the texts: columns: {{text: {there[0] if there else 'COLUMN'}}}",
        )
    return chosen
