"""Two revisions, figure by figure."""

from __future__ import annotations

from typing import Any

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local.underway import follow
from stillhouse.errors import UsageError
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

    Raises:
        UsageError: one of them is not known, or ambiguous.
    """
    store = LocalStore(load_settings().home)
    (name_a, first), (name_b, second) = _find(store, a), _find(store, b)
    rows: list[dict[str, Any]] = [
        {"name": "precision", "a": first["precision"], "b": second["precision"], "ratio": None},
        {
            "name": "size",
            "a": first["size"],
            "b": second["size"],
            "ratio": second["size"] / first["size"] if first["size"] else None,
        },
    ]
    for figure in dict.fromkeys([*first["figures"], *second["figures"]]):
        left, right = first["figures"].get(figure), second["figures"].get(figure)
        ratio = right["estimate"] / left["estimate"] if left and right and left["estimate"] else None
        rows.append({"name": figure, "a": left, "b": right, "ratio": ratio})
    return {
        "a": {"label": f"{name_a} {first['digest'][7:15]}", "digest": first["digest"]},
        "b": {"label": f"{name_b} {second['digest'][7:15]}", "digest": second["digest"]},
        "rows": rows,
    }
