"""Two revisions, figure by figure."""

from __future__ import annotations

import math
from typing import Any

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local.underway import follow
from stillhouse.errors import UsageError
from stillhouse.passes.evaluate.intervals import Interval
from stillhouse.settings import load_settings

__all__ = ["compare"]


def _revisions(store: LocalStore) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name in store.model_names():
        state = store.state(name)
        found += [(name, each) for each in (state.get("revision"), *state.get("history", [])) if each]
    return found


def _find(store: LocalStore, what: str) -> tuple[str, dict[str, Any]]:
    known = _revisions(store)
    wanted = what.removeprefix("sha256:")
    by_name = [entry for entry in known if entry[0] == what]
    by_digest = [entry for entry in known if len(wanted) >= 4 and entry[1]["digest"].removeprefix("sha256:").startswith(wanted)]
    if by_name:
        return by_name[0]
    if len({entry[1]["digest"] for entry in by_digest}) == 1:
        return by_digest[0]
    if what in store.model_names():
        raise UsageError(
            "the model has no revision yet",
            field="A, B",
            found=what,
            fix=follow(store, what) or f"still up {store.state(what).get('file', 'FILE')}",
        )
    raise UsageError(
        "more than one revision begins like this" if by_digest else "there is no such model or revision",
        field="A, B",
        found=what,
        allowed=", ".join(f"{name} {revision['digest'][:19]}" for name, revision in known) or "none yet",
        fix="still status",
    )


def compare(a: str, b: str) -> dict[str, Any]:
    """Return both revisions' precision, size and figures, with the ratio of B to A, as plain data.

    Figures have their 95 % intervals as the gate stored them. `apart`: whether the two are told apart, by the rule that the
    gate's search goes by: they are where their intervals have no value in common. None: there are not two to compare.
    Below a share of the teacher's figure stand the student's and the teacher's.

    Raises:
        UsageError: one of them is not known, or ambiguous.
    """
    store = LocalStore(load_settings().home)
    (name_a, first), (name_b, second) = _find(store, a), _find(store, b)
    rows: list[dict[str, Any]] = [
        {"name": "precision", "a": first["precision"], "b": second["precision"], "ratio": None, "apart": None},
        {
            "name": "size",
            "a": first["size"],
            "b": second["size"],
            "ratio": second["size"] / first["size"] if first["size"] else None,
            "apart": first["size"] != second["size"],  # counted, not measured
        },
    ]
    for figure in dict.fromkeys([*first["figures"], *second["figures"]]):
        left, right = first["figures"].get(figure), second["figures"].get(figure)
        rows.append({"name": figure, "a": left, "b": right, **_difference(left, right)})
        for who in ("student", "teacher"):  # of a share of the teacher's figure, where the gate kept what it is of
            mine, theirs = (each.get(who) if each else None for each in (left, right))
            if mine or theirs:
                name = f"{figure.removesuffix(' / teacher')} of the {who}"
                rows.append({"name": name, "a": mine, "b": theirs, **_difference(mine, theirs)})
    return {
        "a": {"label": f"{name_a} {first['digest'][7:15]}", "digest": first["digest"]},
        "b": {"label": f"{name_b} {second['digest'][7:15]}", "digest": second["digest"]},
        "rows": rows,
    }


def _difference(left: dict[str, Any] | None, right: dict[str, Any] | None) -> dict[str, Any]:
    """Return the ratio of two figures, and whether they are told apart."""
    if not left or not right:
        return {"ratio": None, "apart": None}
    a, b = Interval.from_json(left), Interval.from_json(right)
    if math.isnan(a.estimate) or math.isnan(b.estimate):
        return {"ratio": None, "apart": None}
    return {"ratio": b.estimate / a.estimate if a.estimate else None, "apart": not a.reaches(b)}
