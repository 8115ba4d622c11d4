"""Frees what of a store nobody needs any more, as a build begins: the operator, which cannot see it, says what is needed.

What goes was found unneeded for a day, by builds at both ends of it: the operator's list can be behind, a spec can
be changed back, and a pod that is on its way out may still be reading.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from stillhouse.clients.store.files import read_json, write_json
from stillhouse.clients.store.gc import Freed, Kept, collect
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local.text import size
from stillhouse.entrypoints.worker import pinned
from stillhouse.entrypoints.worker.given import Needed
from stillhouse.errors import StillhouseError, UsageError

__all__ = ["GRACE_S", "clean"]

GRACE_S = 24 * 3600.0
_STEP, _MODEL = "step:", "model:"


def clean(
    store: LocalStore,
    needed: Needed,
    note: Callable[[str], None],
    *,
    grace_s: float = GRACE_S,
    clock: Callable[[], float] = time.time,
) -> Freed | None:
    """Free what has not been needed for `grace_s`; None where nothing may be freed now. It never fails a build."""
    try:
        if not _ours_alone(store, needed.namespace):
            note("the store is shared by several namespaces, so nothing is freed: its operator knows of one alone")
            return None
        freed = collect(store, lambda: _kept(store, needed, grace_s, clock()), rest_s=grace_s)
    except UsageError:
        return None  # somebody builds; the next build looks again
    except (StillhouseError, OSError) as error:
        note(f"nothing is freed in the store: {error}")
        return None
    if freed.objects or freed.scratch:
        note(
            f"freed {size(freed.bytes)} that nobody needed: {len(freed.objects)} artifacts, {len(freed.scratch)} unfinished steps"
        )
    if freed.packed:
        note(f"compressed {len(freed.packed)} artifacts that nobody has used for a day: {size(freed.saved)} less")
    return freed


def _ours_alone(store: LocalStore, namespace: str) -> bool:
    """Write down that a namespace uses the store; return whether it is the only one."""
    file = store.root / "namespaces.json"
    known = _strings(read_json(file))
    if namespace not in known:
        write_json(file, sorted({*known, namespace}), tmp=store.tmp)
    return {*known, namespace} == {namespace}


def _kept(store: LocalStore, needed: Needed, grace_s: float, now: float) -> Kept:
    """Return what stays. Asked while the store is ours alone."""
    marks_file = store.root / "unneeded.json"
    marks = read_json(marks_file)
    before = {str(name): float(at) for name, at in marks.items() if _number(at)} if isinstance(marks, dict) else {}
    built = set(store.model_names())
    gone = (built | pinned.models(store.root)) - needed.models
    steps, objects = _named(store, needed)
    unneeded = {
        *(_MODEL + name for name in gone),
        *(_STEP + key for key in _steps(store) - steps),
        *(digest for digest in store.objects.digests() if digest not in objects),
    }
    since = {name: before.get(name, now) for name in unneeded}
    old = {name for name, at in since.items() if now - at >= grace_s}
    for name in gone:
        if _MODEL + name in old:
            pinned.forget(store.root, name)
            if name in built:
                store.forget_model(name)
    write_json(marks_file, {name: at for name, at in since.items() if name not in old}, tmp=store.tmp)
    young = unneeded - old
    return (
        steps | {name.removeprefix(_STEP) for name in young if name.startswith(_STEP)},
        objects | {name for name in young if not name.startswith((_STEP, _MODEL))},
    )


def _named(store: LocalStore, needed: Needed) -> tuple[set[str], set[str]]:
    """Return the steps and objects that are needed: of every model's plan, and of every ModelRevision."""
    steps: set[str] = set()
    for name in store.model_names():
        if name not in needed.models:
            continue
        state = store.state(name)
        steps.update(step["key"] for step in state.get("steps", []))
        for revision in (state.get("revision"), *state.get("history", [])):
            if revision and needed.names(revision["digest"]):
                steps.update(step["key"] for step in revision["steps"])
    objects = {digest for digest in store.objects.digests() if needed.names(digest)}
    for key in steps:
        receipt = store.receipt(key)
        if receipt is not None:
            objects.add(receipt.artifact)
    return steps, objects


def _steps(store: LocalStore) -> set[str]:
    """Return the steps that have a receipt, or something unfinished."""
    found: set[str] = set(store.receipt_keys())
    with contextlib.suppress(FileNotFoundError):
        found.update(_names(store.root / "work"))
    return found


def _names(folder: Path) -> Iterable[str]:
    return [each.name for each in folder.iterdir()]


def _strings(data: object) -> set[str]:
    return {each for each in data if isinstance(each, str)} if isinstance(data, list) else set()


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
