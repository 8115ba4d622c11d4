"""Has the data the columns that are measured on, or learned from? One that lacks is told before a teacher or a server runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from stillhouse.errors import DataError
from stillhouse.passes.base import Artifact

__all__ = ["check_labels", "check_roles", "check_texts", "judged_by_labels"]

_PAIR = ("query", "document")
_JUDGED_BY_LABELS = ("accuracy", "macro-f1", "log-loss", "per-class-loss")


def check_texts(data: Artifact, roles: Sequence[str], metrics: Iterable[str] = ()) -> None:
    """Refuse rows without texts, half a pair, and rows without pairs where a metric ranks documents for queries.

    Raises:
        DataError: with the columns that there are, those without a role too, and the one that was probably meant.
    """
    # The other columns of the file are facts of the import; those of an earlier version's receipt are not known.
    check_roles(roles, [str(name) for name in data.facts.get("unused", ())], metrics)


def check_roles(roles: Sequence[str], unused: Sequence[str], metrics: Iterable[str] = ()) -> None:
    """Do what `check_texts` does where only the header was read; `unused` are the columns without a role. Raises the same."""
    ranking = next((name for name in metrics if name.startswith("mrr@")), None)
    there = [role for role in _PAIR if role in roles]
    if len(there) == 2 or (not there and "text" in roles and ranking is None):
        return
    wanted = [role for role in _PAIR if role not in there]
    likely = {role: near for role in [*wanted, *([] if there or ranking else ["text"])] if (near := _near(role, unused))}
    if ranking:
        message = f"metric {ranking} needs query and document"
    elif there:
        message = f"the gate's data has a {there[0]} in every row, but no {wanted[0]}"
    else:
        message = "the gate's data needs texts, or pairs of query and document"
    missing = wanted if ranking else [] if likely else wanted[:1]
    named = ", ".join(f"{role}: {column}" for role, column in {**dict.fromkeys(missing, "COLUMN"), **likely}.items())
    raise DataError(
        message,
        field=f"spec.gate.data.columns.{wanted[0]}" if there else "spec.gate.data.columns",
        found=_found(roles, unused),
        allowed="query and document" if ranking else "text, or query and document (mrr@k needs those)",
        fix=(f"did you mean {' and '.join(likely.values())}? " if likely else "") + f"write columns: {{{named}}}",
    )


def check_labels(roles: Sequence[str], unused: Sequence[str], field: str, need: str) -> None:
    """Refuse data without labels where `need` (`metric accuracy`, `loss hard`) is about them; it stands at `field`.

    Raises:
        DataError: with the columns that there are.
    """
    if "label" in roles:
        return
    near = _near("label", unused)
    raise DataError(
        f"{need} needs labels",
        field=f"{field}.columns.label",
        found=_found(roles, unused),
        allowed="a column of labels",
        fix=(f"did you mean {near}? " if near else "") + f"write columns: {{label: {near or 'COLUMN'}}}",
    )


def judged_by_labels(metrics: Iterable[str]) -> str | None:
    """Return the first of the metrics that compare with labels, None where none does."""
    return next((name for name in metrics if name in _JUDGED_BY_LABELS), None)


def _found(roles: Sequence[str], unused: Sequence[str]) -> str:
    return ", ".join(roles) + (f"; without a role: {', '.join(unused[:20])}" if unused else "")


def _near(role: str, names: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(role, list(by_lower), n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None
