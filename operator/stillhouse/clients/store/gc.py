"""Garbage collection: what no model's plan, history or running server refers to is freed; what nobody serves is compressed."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.locks import Busy
from stillhouse.clients.store.manifests import read_manifest
from stillhouse.errors import StoreError, UsageError

__all__ = ["Freed", "collect"]

_RESTING = frozenset({"torch-model", "onnx-model", "onnx-step", "dataset", "teacher-outputs", "measurement"})
"""Kinds that steps alone read, through the runner, which unpacks them. What serves is mounted by its path and lies plain."""


@dataclass(frozen=True, slots=True)
class Freed:
    """What was (or with a dry run would be) removed; `bytes` counts objects and scratch.

    `busy`: somebody used the store while a dry run looked. `packed`: objects that were put to rest, compressed, and `saved` the
    bytes that it freed (a dry run tells only which would be tried; some may turn out not to get smaller).
    """

    receipts: tuple[str, ...]
    objects: tuple[str, ...]
    scratch: tuple[str, ...]
    bytes: int
    busy: bool = False
    packed: tuple[str, ...] = ()
    saved: int = 0


def _size(folder: Path) -> int:
    """Return the bytes below a folder. What goes away meanwhile (only a dry run has company) counts for nothing."""
    found = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += Path(parent, name).lstat().st_size
    return found


Kept = tuple[Collection[str], Collection[str]]
"""Step keys and digests of objects."""


def collect(store: LocalStore, keep: Callable[[], Kept], *, dry_run: bool = False, rest_s: float | None = None) -> Freed:
    """Remove receipts of other steps than `keep` names, and objects that neither a kept receipt nor `keep` names.

    Of what stays, the objects that `keep` names itself are served and lie plain. Those that only a receipt needs are packed where
    that pays, once they have lain for `rest_s` seconds (None: never).

    `keep` is asked once the store is ours alone, so that a build which ended a moment before counts. A dry run removes
    nothing, so it may look while others build; what they have not recorded yet looks then like what nobody needs.

    Raises:
        UsageError: a build is going on, and this is no dry run.
        StoreError: what a model refers to is not readable, so that nobody can say what it needs.
    """
    try:
        with store.alone():
            _refuse_unknown(store)
            steps, objects = keep()
            freed = _collect(store, set(steps), set(objects), dry_run)
            return freed if rest_s is None else _rest(store, freed, set(objects), dry_run, rest_s)
    except Busy:
        if dry_run:
            return _look(store, keep)
        raise UsageError(
            "a build or a server start is using the store",
            field=str(store.root),
            fix="wait until it has ended, or stop it, then run `still gc` again",
        ) from None


def _look(store: LocalStore, keep: Callable[[], Kept]) -> Freed:
    """Say what would be removed while others use the store; `using` keeps out only who removes something."""
    with store.using():
        _refuse_unknown(store)
        steps, objects = keep()
        return dataclasses.replace(_collect(store, set(steps), set(objects), dry_run=True, alone=False), busy=True)


def _rest(store: LocalStore, freed: Freed, served: set[str], dry_run: bool, rest_s: float) -> Freed:
    """Pack what is not served. The store is ours alone, so nobody reads the plain files that go.

    Where zstandard is not installed, which serves alone, everything stays as it is.
    """
    if importlib.util.find_spec("zstandard") is None:
        return freed
    objects = store.objects
    packed, saved = [], 0
    for digest in objects.digests():
        folder = objects.path(digest)
        with contextlib.suppress(OSError):
            if digest in served or digest in freed.objects or time.time() - folder.stat().st_mtime < rest_s:
                continue
            if read_manifest(folder, digest)[0].kind not in _RESTING:
                continue
            if dry_run:
                would = objects.packed.has(digest) or objects.packed.pays(folder, digest)
                packed += [digest] if would else []
                continue
            gained = objects.pack(digest)
            if not objects.path(digest).exists():
                packed.append(digest)
                saved += gained
    return dataclasses.replace(freed, packed=tuple(packed), saved=saved)


def _refuse_unknown(store: LocalStore) -> None:
    for name in store.model_names():
        if store.state_damaged(name):
            raise StoreError(
                "what is known of a model is damaged, so nothing is freed",
                field=str(store.root / "models" / name / "state.json"),
                fix=f"run `still build FILE` for it again (finished steps are found again), or `still gc --forget {name}`",
            )


def _collect(store: LocalStore, keep_steps: set[str], keep_objects: set[str], dry_run: bool, *, alone: bool = True) -> Freed:
    receipts, freed_bytes = [], 0
    for key in store.receipt_keys():
        receipt = store.receipt(key) if key in keep_steps else None
        if receipt is None:
            receipts.append(key)
        else:
            keep_objects.add(receipt.artifact)
    # Receipts go first: an object without a receipt is only lost work, a receipt without its object is a wrong promise.
    if not dry_run:
        for key in receipts:
            store.forget(key)
    objects = [digest for digest in store.objects.digests() if digest not in keep_objects]
    for digest in objects:
        freed_bytes += store.objects.size(digest)
        if not dry_run:
            store.objects.drop(digest)
    scratch = []
    work = store.root / "work"
    for folder in sorted(work.iterdir()) if work.is_dir() else []:
        if folder.name not in keep_steps or store.receipt(folder.name) is not None:
            scratch.append(folder.name)
            freed_bytes += _size(folder)
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)
    if alone and store.tmp.is_dir():  # nobody else uses the store, so whatever lies here was left by a process that died
        for path in store.tmp.iterdir():
            is_folder = path.is_dir() and not path.is_symlink()
            freed_bytes += _size(path) if is_folder else path.lstat().st_size
            if not dry_run:
                shutil.rmtree(path, ignore_errors=True) if is_folder else path.unlink(missing_ok=True)
    locks = store.root / "locks"
    if not dry_run and locks.is_dir():
        for path in locks.glob("step-*.lock"):
            path.unlink(missing_ok=True)
    return Freed(tuple(receipts), tuple(objects), tuple(scratch), freed_bytes)
