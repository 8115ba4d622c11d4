"""Has the gate's data the columns that are measured on? A misspelt column is found here, before a teacher or a server runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from stillhouse.errors import DataError
from stillhouse.passes.base import Artifact

__all__ = ["check_texts"]

_PAIR = ("query", "document")


def check_texts(data: Artifact, roles: Sequence[str], metrics: Iterable[str] = ()) -> None:
    """Refuse rows without texts, half a pair, and rows without pairs where a metric ranks documents for queries.

    Raises:
        DataError: with the columns that there are, those without a role too, and the one that was probably meant.
    """
    ranking = next((name for name in metrics if name.startswith("mrr@")), None)
    there = [role for role in _PAIR if role in roles]
    if len(there) == 2 or (not there and "text" in roles and ranking is None):
        return
    # The other columns of the file are facts of the import; those of an earlier version's receipt are not known.
    unused = [str(name) for name in data.facts.get("unused", ())]
    wanted = [role for role in _PAIR if role not in there]
    likely = {role: near for role in [*wanted, *([] if there or ranking else ["text"])] if (near := _near(role, unused))}
    if ranking:
        message = f"metric {ranking} needs query and document"
    elif there:
        message = f"the gate's data has a {there[0]} in every row, but no {wanted[0]}"
    else:
        message = "the gate's data needs texts, or pairs of query and document"
    named = ", ".join(f"{role}: {column}" for role, column in (likely or {wanted[0]: "COLUMN"}).items())
    raise DataError(
        message,
        field=f"spec.gate.data.columns.{wanted[0]}" if there else "spec.gate.data.columns",
        found=", ".join(roles) + (f"; without a role: {', '.join(unused[:20])}" if unused else ""),
        allowed="query and document" if ranking else "text, or query and document (mrr@k needs those)",
        fix=(f"did you mean {' and '.join(likely.values())}? " if likely else "") + f"write columns: {{{named}}}",
    )


def _near(role: str, names: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(role, list(by_lower), n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None
